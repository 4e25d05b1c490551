"""The client against a scripted server."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from energyws.client import Client, Gap, Message, Reading, Refused, Removed, State
from tests.client.script import Script, collect, data, numbers, one_reading, say, subscribed, wait


def test_resumes_after_the_last_delivered_reading() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0.0")
        data(connection, 0, "aa-1.0")
        data(connection, 1, "aa-1.1")
        connection.close(1012)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-1.1", recovered=True, replayed=1)
        data(connection, 2, "aa-2.1")
        wait(connection, request)

    with Script(first, second) as script:
        client = Client(script.url, token="t")
        assert numbers(collect(client, 3)) == [0, 1, 2]
    assert "resume" not in script.requests[0]
    assert script.requests[1]["resume"] == {"energy": "aa-1.1"}
    assert client.positions == {"energy": "aa-2.1"}


def test_resumes_even_without_a_delivered_reading() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-7.7")
        connection.close(1011)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-7.7", recovered=True, replayed=1)
        data(connection, 1, "aa-8.7")
        wait(connection, request)

    with Script(first, second) as script:
        collect(Client(script.url), 1)
    assert script.requests[1]["resume"] == {"energy": "aa-7.7"}


def test_last_is_sent_once_and_positions_afterwards() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-3", recovered=True, replayed=1)
        data(connection, 3, "aa-4")
        connection.close(1012)

    with Script(first, wait) as script:
        client = Client(script.url, last=1)
        assert numbers(collect(client, 1)) == [3]
        assert script.requests[0]["last"] == 1
        assert "resume" not in script.requests[0]


def test_since_is_sent_once_and_missing_readings_are_a_gap() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(
            connection,
            "aa-5.0",
            recovered=False,
            replayed=0,
            reason="RETENTION",
            earliest="aa-5.0",
            missing=[5, 0],
        )
        connection.close(1012)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-5.0", recovered=True, replayed=0)
        data(connection, 1, "aa-6.0")
        wait(connection, request)

    with Script(first, second) as script:
        client = Client(script.url, since="2026-01-01T00:00:00Z")
        gap, reading = collect(client, 2)
    assert gap == Gap("energy", 5, "RETENTION", "aa-5.0", (5, 0), "aa-5.0")
    assert numbers([reading]) == [1]
    assert script.requests[0]["since"] == "2026-01-01T00:00:00Z"
    assert "since" not in script.requests[1]
    assert script.requests[1]["resume"] == {"energy": "aa-5.0"}


def test_reconnects_after_the_delay_from_the_service() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        say(connection, type="reconnect", after_ms=700)
        connection.close(1012)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0", recovered=True, replayed=1)
        data(connection, 1, "aa-1")
        wait(connection, request)

    with Script(first, second) as script:
        collect(Client(script.url), 1)
        assert script.times[1] - script.times[0] >= 0.7


@pytest.mark.parametrize("status", [401, 403, 404])
def test_final_refusal_is_raised_with_its_message(status: int) -> None:
    body = b'{"type":"error","message":"Invalid token","code":"UNAUTHORIZED"}'
    with (
        Script(wait, refuse=[(status, body)]) as script,
        pytest.raises(Refused, match=f"HTTP {status}: Invalid token"),
    ):
        collect(Client(script.url, token="secret-token"), 1)


@pytest.mark.parametrize("code", ["UNKNOWN_STREAM", "FORBIDDEN_STREAM"])
def test_impossible_subscription_is_raised(code: str) -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        say(connection, type="error", message="no", code=code)
        wait(connection, request)

    with Script(scene) as script, pytest.raises(Refused, match=code):
        collect(Client(script.url), 1)


def confirm(connection: ServerConnection, position: str, **more: object) -> None:
    positions = {"energy": {"position": position, **more}}
    say(
        connection,
        type="subscribed",
        streams=["energy"],
        positions=positions,
        keys={"energy": 2},
    )


def test_keys_are_asked_for_again_where_the_last_position_was() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        confirm(connection, "aa-0")
        data(connection, 1, "aa-1")
        say(connection, type="position", stream="energy", id="aa-1000")
        connection.close(1012)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        confirm(connection, "aa-1000", recovered=True, replayed=0)
        key, position = "735", "aa-1001"
        say(connection, type="removed", stream="energy", timestamp="t", key=key, id=position)
        wait(connection, request)

    with Script(first, second) as script:
        reading, removed = collect(Client(script.url, keys=["735", "736"]), 2)
    assert numbers([reading]) == [1]
    assert removed == Removed("energy", "t", "735", "aa-1001")
    assert [each["keys"] for each in script.requests] == [{"energy": ["735", "736"]}] * 2
    assert script.requests[1]["resume"] == {"energy": "aa-1000"}


def test_service_that_does_not_filter_is_left_before_any_reading() -> None:
    with (
        Script(one_reading) as script,
        pytest.raises(Refused, match="does not filter energy by key") as refused,
    ):
        collect(Client(script.url, keys="735-secret"), 1)
    assert refused.value.code == "NOT_FILTERED"
    assert "735" not in str(refused.value)


def test_broken_snapshot_begins_again() -> None:
    def first(connection: ServerConnection, request: dict[str, Any]) -> None:
        shown(connection, ["a"])
        connection.close(1012)

    def second(connection: ServerConnection, request: dict[str, Any]) -> None:
        shown(connection, ["a", "b"])
        say(connection, type="position", stream="energy", id="aa-9")
        data(connection, 10, "aa-10")
        wait(connection, request)

    def shown(connection: ServerConnection, keys: list[str]) -> None:
        state = {"position": "aa-9", "complete": True, "since": None, "keys": 2}
        positions = {"energy": {"position": "aa-9"}}
        say(
            connection,
            type="subscribed",
            streams=["energy"],
            positions=positions,
            snapshots={"energy": state},
        )
        for key in keys:
            kind, record = "snapshot", {"n": 0}
            say(connection, type=kind, stream="energy", key=key, timestamp="t", data=record)

    with Script(first, second) as script:
        client = Client(script.url, snapshot=True)
        found = [message for message in collect(client, 4) if isinstance(message, Reading)]
    assert [(each.key, each.is_snapshot) for each in found] == [
        *(("a", True), ("a", True), ("b", True), (None, False)),
    ]
    assert [each.get("resume") for each in script.requests] == [None, None]
    assert [each["snapshot"] for each in script.requests] == [True, True]
    assert client.snapshots["energy"].complete
    assert client.positions == {"energy": "aa-10"}


def test_other_errors_and_unknown_messages_are_ignored() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        say(connection, type="error", message="soon", code="TOKEN_EXPIRING")
        say(connection, type="news", of="tomorrow")
        subscribed(connection, "aa-0")
        data(connection, 1, "aa-1")
        wait(connection, request)

    with Script(scene) as script:
        assert numbers(collect(Client(script.url), 1)) == [1]


def test_connecting_to_an_unreachable_service_is_retried() -> None:
    async def main(url: str) -> None:
        attempts = asyncio.Semaphore(0)

        def on_state(state: State, why: str) -> None:
            if state == "connecting":
                attempts.release()

        client = Client(url, on_state=on_state)
        reading = asyncio.create_task(anext(client.messages(), None))
        for _ in range(3):
            await attempts.acquire()
        await client.close()
        assert await reading is None

    with Script(one_reading) as script:
        url = script.url
    asyncio.run(asyncio.wait_for(main(url), 20))


@pytest.mark.parametrize("situation", ["fetching a token", "connecting", "live", "waiting"])
def test_close_ends_the_iteration_permanently(situation: str) -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        wait(connection, request)

    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    async def main(client: Client) -> list[Message]:
        reading = asyncio.create_task(_all(client))
        expected = "connecting" if situation == "fetching a token" else situation
        while client.state != expected:
            await asyncio.sleep(0)
        await client.close()
        await client.close()
        found = await reading
        assert await _all(client) == []
        assert client.state == "idle"
        return found

    async def _all(client: Client) -> list[Message]:
        return [message async for message in client]

    with Script(scene) as script, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        urls = {
            "connecting": f"ws://127.0.0.1:{silent.getsockname()[1]}/",
            "waiting": "ws://127.0.0.1:1/",
        }
        token = never if situation == "fetching a token" else None
        client = Client(urls.get(situation, script.url), token=token)
        assert asyncio.run(asyncio.wait_for(main(client), 20)) == []


def test_next_loop_continues_where_the_previous_one_ended() -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        first = int(request.get("resume", {"energy": "aa-0"})["energy"].removeprefix("aa-"))
        subscribed(connection, f"aa-{first}", recovered=True, replayed=0)
        for number in range(first, 10):
            data(connection, number, f"aa-{number + 1}")
        wait(connection, request)

    async def main(client: Client) -> list[int]:
        found = []
        async with client:
            for _ in range(3):
                async for message in client:
                    assert isinstance(message, Reading)
                    found.append(message.data["n"])
                    if len(found) % 3 == 0:
                        break
        return found

    with Script(scene) as script:
        assert asyncio.run(asyncio.wait_for(main(Client(script.url)), 20)) == [*range(9)]


def test_callback_that_raises_does_not_interrupt_the_client() -> None:
    raised: list[object] = []

    def on_state(state: State, why: str) -> None:
        raise LookupError(state)

    async def main() -> list[Message]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
        async with Client(script.url, on_state=on_state) as client:
            return [await anext(aiter(client))]

    with Script(one_reading) as script:
        assert numbers(asyncio.run(asyncio.wait_for(main(), 20))) == [1]
    assert [str(each) for each in raised[:2]] == ["connecting", "live"]
