"""Every path of a record to a client, with records of up to the largest size."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pytest

from energyws.client import Client, Reading
from energyws.settings import MAX_RECORD_BYTES
from energyws.testing import (
    FAST_FETCH,
    PARTITIONS,
    Broker,
    ExternalBroker,
    Records,
    Service,
    config,
    token,
)
from tests.clients import bare_socket, masked, open_peer, upgrade_request
from tests.conftest import new_topic
from tests.web.agent import Agent, chromium, node

pytestmark = pytest.mark.e2e

# The embedded broker keeps 5 MiB of a partition.
SIZES = [1024, 1 << 20, 4 << 20, MAX_RECORD_BYTES]
# Room for fewer records than a test writes, and for fewer bytes than the largest record has.
SHALLOW = {"max_frames": 3, "warm": 1, "max_bytes": 65_536}
DEEP = {"max_frames": 100, "max_bytes": 256 << 20}


class Scene:
    """A topic, its records of one size in bytes, and services that read it."""

    def __init__(self, broker: Broker, topic: str, size: int, directory: Path) -> None:
        self.size = size
        self.records = Records(broker.bootstrap, topic)
        self.topic = topic
        self._broker = broker
        self._directory = directory
        self._running: list[Service] = []

    def serve(self, **sections: dict[str, Any]) -> Service:
        kafka = {"max_record_bytes": self.size, "options": FAST_FETCH}
        sections = {"server": {"workers": 1}, **sections}
        chosen = config(self._broker.bootstrap, self.topic, kafka=kafka, **sections)
        directory = self._directory / f"service-{len(self._running)}"
        self._running.append(Service(directory, chosen))
        return self._running[-1].ready()

    def send_large(self) -> list[int]:
        """Write one record of that size to each partition; their numbers."""
        numbers = list(range(self.records.sent, self.records.sent + PARTITIONS))
        for number in numbers:
            shell = len(orjson.dumps({"n": number, "x": ""}))
            value = orjson.dumps({"n": number, "x": "x" * (self.size - shell)})
            assert len(value) == self.size
            self.records.raw(value, number % PARTITIONS)
        self.records.sent += len(numbers)
        self.records.flush()
        return numbers

    def close(self) -> None:
        for service in self._running:
            service.kill()
            print("\n".join(service.lines))


@pytest.fixture(params=SIZES)
def scene(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scene]:
    size: int = request.param
    if size > 4 << 20 and not isinstance(broker, ExternalBroker):
        pytest.skip("the embedded broker does not keep so large a record beside another one")
    made = Scene(broker, new_topic(broker), size, tmp_path)
    yield made
    made.close()


LARGE: dict[str, Any] = {"max_size": None}


def payload_of(stream: BinaryIO) -> bytes:
    """The payload of the next text frame that a server sent."""
    first, size = stream.read(2)
    if size >= 126:
        size = int.from_bytes(stream.read(2 if size == 126 else 8), "big")
    payload = stream.read(size)
    return payload if first == 0x81 else payload_of(stream)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_live(scene: Scene, compression: str | None) -> None:
    service = scene.serve()
    with open_peer(service, compression=compression, **LARGE) as peer:
        peer.subscribe()
        numbers = scene.send_large()
        assert sorted(peer.numbers(PARTITIONS)) == numbers


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("history", [SHALLOW, DEEP], ids=["log", "ring"])
def test_history_requests(scene: Scene, history: dict[str, Any], compression: str | None) -> None:
    service = scene.serve(history=history)
    with open_peer(service) as peer:
        begin = peer.subscribe()["position"]
    numbers = [*scene.send_large(), *scene.records.send(3 * PARTITIONS)]
    service.caught_up(scene.records)
    for request in ({"resume": {"energy": begin}}, {"last": len(numbers)}):
        with open_peer(service, compression=compression, **LARGE) as peer:
            reply = peer.subscribe(**request)
            assert (reply["recovered"], reply["replayed"]) == (True, len(numbers))
            assert sorted(peer.numbers(len(numbers))) == numbers


def test_history_read_at_the_start_and_by_a_new_worker(scene: Scene) -> None:
    numbers = scene.send_large()
    service = scene.serve(history=DEEP)
    for _ in range(2):
        with open_peer(service, **LARGE) as peer:
            assert peer.subscribe(last=PARTITIONS)["recovered"]
            assert sorted(peer.numbers(PARTITIONS)) == numbers
        # The next client waits in the queue for the new worker.
        service.children()["worker-0"].kill()


@pytest.mark.parametrize("history", [SHALLOW, DEEP], ids=["log", "ring"])
def test_records_written_while_the_consumer_was_stopped(
    scene: Scene, history: dict[str, Any]
) -> None:
    service = scene.serve(history=history)
    with open_peer(service, **LARGE) as peer:
        peer.subscribe()
        service.children()["consumer"].suspend()
        numbers = [*scene.send_large(), *scene.records.send(3 * PARTITIONS)]
        service.children()["consumer"].kill()
        assert sorted(peer.numbers(len(numbers))) == numbers


def test_client_that_fell_behind(scene: Scene) -> None:
    # The client answers no pings, and a busy machine takes its time.
    service = scene.serve(history=DEEP, server={"workers": 1, "ping_interval_seconds": 600})
    with bare_socket(service) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        connection.sendall(upgrade_request(service, query="?subscribe=energy"))
        numbers: list[int] = []
        # More than the kernel buffers, except with the smallest size.
        for _ in range(3 if scene.size <= 1 << 20 else 1):
            numbers += scene.send_large()
        service.caught_up(scene.records)
        got: list[int] = []
        with connection.makefile("rb") as stream:
            while stream.readline() != b"\r\n":
                pass
            while len(got) < len(numbers):
                message = orjson.loads(payload_of(stream))
                if message["type"] == "data":
                    got.append(message["data"]["n"])
        assert sorted(got) == numbers
        connection.sendall(masked(8, b""))


def test_client_in_python(scene: Scene) -> None:
    service = scene.serve(history=SHALLOW)
    with open_peer(service) as peer:
        begin = peer.subscribe()["position"]
    numbers = [*scene.send_large(), *scene.records.send(PARTITIONS)]
    service.caught_up(scene.records)

    async def main() -> list[int]:
        got: list[int] = []
        async with Client(service.url, token=token(), resume={"energy": begin}) as client:
            async for message in client:
                assert isinstance(message, Reading)
                got.append(message.data["n"])
                if len(got) == len(numbers):
                    return got
        raise AssertionError("the client has ended")

    assert sorted(asyncio.run(asyncio.wait_for(main(), 60))) == numbers


@pytest.mark.parametrize("runs", [node, chromium], ids=["node", "chromium"])
def test_client_in_javascript(scene: Scene, runs: Callable[[], Agent]) -> None:
    service = scene.serve(history=SHALLOW)
    with open_peer(service) as peer:
        begin = peer.subscribe()["position"]
    numbers = [*scene.send_large(), *scene.records.send(PARTITIONS)]
    service.caught_up(scene.records)
    with runs() as agent:
        job = agent.start(service.url, token=token(), streams=["energy"], resume={"energy": begin})
        job.wait(lambda: len(job.numbers) >= len(numbers), "all records")
        job.stop()
        assert (job.gaps, sorted(job.numbers)) == ([], numbers)
