"""One connection: how it ends, and its limits."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from websockets.sync.server import ServerConnection

from energyws.client import Client, Reading, Refused
from tests.client.script import Script, collect, data, numbers, one_reading, say, subscribed, wait


def test_half_open_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("energyws.client.connection.SILENCE_SECONDS", 0.2)
    received: list[object] = []

    def silent(connection: ServerConnection, request: dict[str, Any]) -> None:
        while True:
            received.append(orjson.loads(connection.recv()))

    with Script(silent, one_reading) as script:
        assert numbers(collect(Client(script.url), 1)) == [1]
    assert received == [{"type": "ping"}]


def test_oversized_message_ends_the_iteration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("energyws.client.connection.MAX_MESSAGE_BYTES", 1_000)

    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        say(connection, type="data", stream="energy", data={"pad": "x" * 1_000}, id="aa-1")
        wait(connection, request)

    with Script(scene) as script, pytest.raises(Refused, match="a message of more than") as refused:
        collect(Client(script.url), 1)
    assert refused.value.close == 1009
    assert len(script.requests) == 1


def test_record_of_15_mib_is_delivered() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        pad = "x" * (15 << 20)
        for number in range(3):
            at = f"aa-{number + 1}"
            say(connection, type="data", stream="energy", timestamp="", data={"p": pad}, id=at)
        data(connection, 7, "aa-4")
        wait(connection, request)

    with Script(scene) as script:
        messages = collect(Client(script.url), 4)
    assert numbers(messages[3:]) == [7]


def test_slow_application_pauses_the_server_and_misses_nothing() -> None:
    sent: list[int] = []

    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        pad = "x" * 100_000
        for number in range(600):
            at = f"aa-{number + 1}"
            record = {"n": number, "pad": pad}
            say(connection, type="data", stream="energy", timestamp="", data=record, id=at)
            sent.append(number)
        wait(connection, request)

    async def main(client: Client) -> list[int]:
        found = []
        async with client:
            async for message in client:
                assert isinstance(message, Reading)
                if not found:
                    # Wait until the server has stopped sending for half a second.
                    before = -1
                    while len(sent) != before:
                        before = len(sent)
                        await asyncio.sleep(0.5)
                    assert before < 600
                found.append(message.data["n"])
                if len(found) == 600:
                    return found
        return found

    with Script(scene) as script:
        client = Client(script.url)
        assert asyncio.run(asyncio.wait_for(main(client), 30)) == [*range(600)]
    assert client.connects == 1


def test_refusal_has_the_code_of_the_error_before_the_close() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        say(
            connection, type="error", code="FORBIDDEN_ORIGIN", message="This origin may not connect"
        )
        connection.close(4403, "forbidden")

    with Script(scene) as script, pytest.raises(Refused, match=r"^FORBIDDEN_ORIGIN: ") as refused:
        collect(Client(script.url), 1)
    assert (refused.value.code, refused.value.close) == ("FORBIDDEN_ORIGIN", 4403)


def test_message_that_is_not_json_ends_the_connection() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        connection.send("{")
        wait(connection, request)

    states: list[str] = []
    with Script(scene, one_reading) as script:
        client = Client(script.url, on_state=lambda _, why: states.append(why))
        assert numbers(collect(client, 1)) == [1]
    assert "a message that is not JSON" in states


def test_fragmented_and_binary_messages_are_delivered() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        text = '{"type":"data","stream":"energy","timestamp":"","data":{"n":%d},"id":"aa-1"}'
        connection.send([(text % 1)[:30], (text % 1)[30:]])
        connection.send((text % 2).encode())
        wait(connection, request)

    with Script(scene) as script:
        assert numbers(collect(Client(script.url), 2)) == [1, 2]
