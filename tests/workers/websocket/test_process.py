"""A whole worker in this process: its bus, listening socket, start and ends."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from energyws.auth.verifier import mint
from energyws.errors import BootError
from energyws.process.board import Board, Field, State
from energyws.process.control_messages import ShutdownMode
from energyws.protocol.frame import DataFrames
from energyws.protocol.position import from_offsets
from energyws.settings import Auth, Bus, Issuer, Kafka, Server, Settings, Stream, Tls
from energyws.stream.record_key import key_rules
from energyws.stream.ring import Entry, Ring
from energyws.testing import until
from workers.bus.publisher import Publisher
from workers.bus.rendezvous import BusDirectory
from workers.runtime import Runtime
from workers.websocket import process

SECRET = "a secret of thirty-two characters"
SETTINGS = Settings(
    kafka=Kafka(brokers="127.0.0.1:1"),
    streams={"energy": Stream(topic="energy")},
    server=Server(drain_seconds=0.0),
    auth=Auth(jwt_secret=SECRET),
    bus=Bus(heartbeat_seconds=0.02),
)
DEADLINE_SECONDS = 10.0


class Running:
    """A worker, and the consumer's end of its bus."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.rings: dict[str, Ring] = {}
        bus = BusDirectory(directory / "bus")
        self.publisher = Publisher(bus.path, settings.bus, key_rules(settings.streams), self.rings)
        bus.take_over()
        board = Board.create()
        descriptor = os.dup(self.listening.fileno())
        self.runtime = Runtime(
            settings, board, board.row(0), "worker-0", directory / "bus", 0, descriptor
        )
        self.runtime.row[Field.STATE] = State.STARTING
        self.serving = asyncio.ensure_future(process.serve(self.runtime))

    @property
    def ready(self) -> bool:
        return self.runtime.row[Field.STATE] == State.READY

    def find_topic(self, stream: str = "energy") -> None:
        self.rings[stream] = Ring(self.runtime.settings.history, from_offsets("abcd0123", [0]))
        self.publisher.break_run()

    def publish(self, offset: int, size: int = 0, stream: str = "energy") -> None:
        """size: of the record, roughly."""
        head = f"abcd0123-{offset + 1}"
        record = b'{"n":%d%b}' % (offset, b" " * size)
        frame = DataFrames(stream).build(0, record, head)
        self.rings[stream].append(Entry(0, offset, 0, frame), time.monotonic())
        self.publisher.publish(stream, Entry(0, offset, 0, frame))

    async def client(self) -> ClientConnection:
        token = mint(SECRET, "tester", 3600, time.time())
        return await connect(
            f"ws://127.0.0.1:{self.port}/ws/energy?subscribe=energy",
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
        )


@asynccontextmanager
async def running(directory: Path, settings: Settings = SETTINGS) -> AsyncIterator[Running]:
    made = Running(directory, settings)
    try:
        yield made
    finally:
        made.serving.cancel()
        await asyncio.wait([made.serving])
        made.publisher.close()
        made.listening.close()


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Undo what a worker does to the garbage collector: frozen objects and thresholds."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    uvloop.run(asyncio.wait_for(test(), DEADLINE_SECONDS))


def test_worker_delivers_frames_from_the_bus(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as worker:
            worker.find_topic()
            await until(lambda: worker.ready)
            client = await worker.client()
            assert '"subscribed"' in str(await client.recv())
            worker.publish(0)
            assert '"n":0' in str(await client.recv())
            await client.close()

    run(test)


@pytest.mark.parametrize("how", ShutdownMode)
def test_worker_drains_its_clients_before_it_ends(
    tmp_path: Path, how: ShutdownMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "QUEUE_SECONDS", 0.05)

    async def test() -> None:
        async with running(tmp_path) as worker:
            worker.find_topic()
            await until(lambda: worker.ready)
            client = await worker.client()
            await client.recv()
            worker.runtime.shut_down(how)
            assert '"reconnect"' in str(await client.recv())
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            await worker.serving

    run(test)


@pytest.mark.parametrize("how", ShutdownMode)
def test_answer_under_way_is_complete_when_the_worker_leaves(
    tmp_path: Path, how: ShutdownMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "QUEUE_SECONDS", 0.05)
    size = 8 * 1024 * 1024
    token = mint(SECRET, "tester", 3600, time.time())
    request = f"GET /last/energy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"

    async def test() -> None:
        async with running(tmp_path) as worker:
            worker.find_topic()
            await until(lambda: worker.ready)
            worker.publish(0, size)
            await until(lambda: worker.runtime.row[Field.FRAMES] == 1)
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", worker.port)) as client:
                client.setblocking(False)
                await loop.sock_sendall(client, request.encode())
                begin = await loop.sock_recv(client, 1024)
                assert begin.startswith(b"HTTP/1.1 200 ")
                worker.runtime.shut_down(how)
                received = len(begin)
                while data := await loop.sock_recv(client, 256 * 1024):
                    received += len(data)
                assert received > size
            await worker.serving

    run(test)


def test_clients_are_refused_while_the_service_stops(tmp_path: Path) -> None:
    async def test() -> None:
        settings = replace(SETTINGS, server=replace(SETTINGS.server, drain_seconds=3600.0))
        async with running(tmp_path, settings) as worker:
            worker.find_topic()
            await until(lambda: worker.ready)
            # The first client is closed immediately, the second after half of the drain.
            clients = [await worker.client() for _ in range(2)]
            worker.runtime.shut_down(ShutdownMode.STOP)
            with pytest.raises(InvalidStatus) as refused:
                await worker.client()
            assert refused.value.response.status_code == 503
            await until(lambda: worker.runtime.row[Field.CONNECTIONS] == 1)
            for client in clients:
                await client.close()

    run(test)


def test_worker_without_keys_accepts_connections_but_is_not_ready(tmp_path: Path) -> None:
    async def test() -> None:
        issuer = Issuer(name="i", issuer="i", jwks_url="http://127.0.0.1:1/")
        async with running(tmp_path, replace(SETTINGS, auth=Auth(issuers=(issuer,)))) as worker:
            worker.find_topic()
            with pytest.raises(InvalidStatus) as refused:
                await worker.client()
            assert refused.value.response.status_code == 401
            assert not worker.ready

    run(test)


def test_unusable_settings_change_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as worker:
            worker.find_topic()
            await until(lambda: worker.ready)
            missing = Tls(cert=str(tmp_path / "none.pem"), key=str(tmp_path / "none.pem"))
            with pytest.raises(BootError, match="cannot be used as certificate and key"):
                worker.runtime.on_settings(
                    replace(SETTINGS, server=replace(SETTINGS.server, tls=missing))
                )
            client = await worker.client()
            worker.runtime.on_settings(
                replace(SETTINGS, server=replace(SETTINGS.server, max_connections=1))
            )
            with pytest.raises(InvalidStatus) as refused:
                await worker.client()
            assert refused.value.response.status_code == 503
            await client.close()

    run(test)


def test_shed_closes_one_client_and_the_worker_continues(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as worker:
            worker.find_topic()
            await until(lambda: worker.ready)
            clients = [await worker.client() for _ in range(3)]
            await until(lambda: worker.runtime.row[Field.CONNECTIONS] == 3)
            worker.runtime.on_shed(1)
            await until(lambda: worker.runtime.row[Field.CONNECTIONS] == 2)
            assert not worker.serving.done()
            for client in clients:
                await client.close()

    run(test)


def test_claim_of_keys_goes_with_the_worker(tmp_path: Path) -> None:
    keyed = {"energy": Stream(topic="energy", key="/meter", access="keyed")}
    settings = replace(SETTINGS, streams=keyed)

    async def test() -> None:
        async with running(tmp_path, settings) as worker:
            worker.find_topic()
            await until(lambda: worker.ready)
            # With it, the keys of streams may have another meaning.
            worker.runtime.on_settings(
                replace(settings, auth=replace(settings.auth, keys_claim="meters"))
            )
            url = f"ws://127.0.0.1:{worker.port}/ws/energy?subscribe=energy"
            for claim, type_ in (("meters", "error"), ("keys", "subscribed")):
                now = time.time()
                token = mint(SECRET, "tester", 3600, now, keys=["7"], keys_claim=claim)
                headers = {"Authorization": f"Bearer {token}"}
                async with connect(url, additional_headers=headers) as client:
                    assert json.loads(await client.recv())["type"] == type_

    run(test)
