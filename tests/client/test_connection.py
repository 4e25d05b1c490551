"""One connection: how it ends, and its limits."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop
from websockets.sync.server import ServerConnection
from websockets.utils import accept_key

from energyws.client import Client, Reading, Refused
from energyws.client.connection import Connection
from energyws.testing.certificates import trusting, write_pair
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


@pytest.mark.parametrize(
    "frame",
    [b"\x83\x00", b"\xc1\x00", b"\x80\x00", b"\x88\x02\x00\x01"],
    ids=["unknown opcode", "reserved bit", "continuation of nothing", "close code 1"],
)
def test_frame_that_breaks_the_protocol_ends_the_connection(frame: bytes) -> None:
    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        data(connection, 0, "aa-1")
        connection.socket.sendall(frame)
        wait(connection, request)

    states: list[str] = []
    with Script(scene, one_reading) as script:
        client = Client(script.url, on_state=lambda _, why: states.append(why))
        assert numbers(collect(client, 2)) == [0, 1]
    assert "closed with 1006" in states


def test_token_is_not_logged_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Script(one_reading) as script:
        collect(Client(script.url, token="CANARY"), 1)
    assert script.tokens == ["Bearer CANARY"]
    # The scripted server logs what it receives.
    ours = [record for record in caplog.records if record.name != "websockets.server"]
    assert "CANARY" not in str([record.getMessage() for record in ours])


def test_user_and_password_in_the_url_are_not_sent() -> None:
    with Script(one_reading) as script:
        url = script.url.replace("//", "//me:CANARY@")
        collect(Client(url), 1)
        collect(Client(script.url.replace("//", "//me@"), token="t"), 1)
    assert script.tokens == [None, "Bearer t"]


def test_attempt_that_is_cancelled_closes_its_socket_and_reports_nothing() -> None:
    ended: list[Connection] = []

    async def main(server: socket.socket) -> None:
        url = f"ws://127.0.0.1:{server.getsockname()[1]}/"
        connection = Connection(lambda *_: False, ended.append)
        opening = asyncio.create_task(connection.open(url, {}, None))
        loop = asyncio.get_running_loop()
        peer, _ = await loop.sock_accept(server)
        with peer:
            while b"\r\n\r\n" not in await loop.sock_recv(peer, 65536):
                pass
            opening.cancel()
            with suppress(asyncio.CancelledError):
                await opening
            assert await loop.sock_recv(peer, 1) == b""
        await connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        asyncio.run(asyncio.wait_for(main(server), 20))
    assert ended == []


def test_message_in_the_packet_of_the_handshake_is_delivered() -> None:
    async def main(server: socket.socket) -> object:
        loop = asyncio.get_running_loop()
        reading = asyncio.create_task(
            anext(aiter(Client(f"ws://127.0.0.1:{server.getsockname()[1]}/")))
        )
        peer, _ = await loop.sock_accept(server)
        with peer:
            request = await loop.sock_recv(peer, 65536)
            key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0].decode()
            message = b'{"type":"data","stream":"energy","timestamp":"","data":{},"id":"aa-1"}'
            answer = (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
            )
            frame = bytes([0x81, len(message)]) + message
            await loop.sock_sendall(peer, answer.encode() + frame)
            return await reading

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        found = asyncio.run(asyncio.wait_for(main(server), 20))
    assert found == Reading("energy", "", {}, "aa-1")


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_messages_of_any_size_arrive_intact_over_tls(
    tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    sizes = [1, 70_000, 16_384, 3, 1_000_000, *range(60_000, 70_000, 1_000), 100]

    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        for number, size in enumerate(sizes):
            record = {"n": number, "pad": str(number % 10) * size}
            at = f"aa-{number + 1}"
            say(connection, type="data", stream="energy", timestamp="", data=record, id=at)
        wait(connection, request)

    async def main(client: Client) -> list[Any]:
        found: list[Any] = []
        async with client:
            async for message in client:
                assert isinstance(message, Reading)
                found.append(message.data)
                if len(found) == len(sizes):
                    break
        return found

    pair = write_pair(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair["cert"], pair["key"])
    with Script(scene, tls=server) as script, asyncio.Runner(loop_factory=loop) as runner:
        client = Client(script.url, ssl_context=trusting(pair["cert"]))
        found = runner.run(asyncio.wait_for(main(client), 20))
    assert found == [{"n": n, "pad": str(n % 10) * size} for n, size in enumerate(sizes)]
