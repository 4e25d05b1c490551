"""The consumer's end of the bus; tests/workers/bus/test_subscriber.py tests both ends together."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zmq

from energyws.protocol.position import Position, from_offsets
from energyws.settings import Bus, History
from energyws.stream.bus_messages import (
    FRAME,
    HEARTBEAT,
    BusMessage,
    KeyRules,
    SyncReply,
    SyncRequest,
    unpack,
    unpack_heads,
    unpack_sync_reply,
)
from energyws.stream.ring import Entry, Ring
from workers.bus import publisher as module
from workers.bus.publisher import Publisher
from workers.bus.rendezvous import endpoint

EPOCH = "abcd0123"
RULES = {"b": "record", "a": None}
BUS = Bus(heartbeat_seconds=0.02)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(main(), 30)

    asyncio.run(limited())


def ring(count: int, size: int = 10) -> Ring:
    made = Ring(History(), from_offsets(EPOCH, [0]))
    for offset in range(count):
        made.append(Entry(0, offset, 0, b"x" * size), 0.0)
    return made


class Peer:
    """Plain sockets at the worker's end."""

    def __init__(self, directory: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.sub, self.dealer = self._context.socket(zmq.SUB), self._context.socket(zmq.DEALER)
        self.sub.setsockopt(zmq.SUBSCRIBE, b"")
        self.sub.connect(endpoint(directory, "frames"))
        self.dealer.connect(endpoint(directory, "sync"))

    async def receive(self, socket: zmq.Socket[bytes]) -> list[bytes]:
        while not socket.poll(0):
            await asyncio.sleep(0.001)
        return socket.recv_multipart()

    async def message(self, kind: int) -> BusMessage:
        """The next message of a kind."""
        while True:
            message = unpack((await self.receive(self.sub))[0])
            if message.kind == kind:
                return message

    async def sync(
        self, have: dict[str, Position | None], rules: KeyRules | None = None
    ) -> tuple[SyncReply, list[BusMessage]]:
        self.dealer.send(SyncRequest(7, have, rules).pack())
        first, *frames = await self.receive(self.dealer)
        return unpack_sync_reply(first), [unpack(each) for each in frames]

    def close(self) -> None:
        for socket in (self.sub, self.dealer):
            socket.setsockopt(zmq.LINGER, 0)
            socket.close()
        self._context.term()


@asynccontextmanager
async def bus(directory: Path, rings: dict[str, Ring]) -> AsyncIterator[tuple[Publisher, Peer]]:
    publisher, peer = Publisher(directory, BUS, RULES, rings), Peer(directory)
    try:
        yield publisher, peer
    finally:
        peer.close()
        publisher.close()


def test_frames_are_numbered_without_gaps_and_heartbeats_repeat_the_last_number(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with bus(tmp_path, {}) as (publisher, peer):
            # The subscription works from here on.
            first = await peer.message(HEARTBEAT)
            assert first.sequence == 0
            publisher.publish("b", Entry(3, 5, 1_000, b"frame"))
            publisher.publish("a", Entry(0, 9, 2_000, b"other"))
            assert await peer.message(FRAME) == BusMessage(
                FRAME, 1, 3, first.run, 1, 5, 1_000, b"frame"
            )
            assert (await peer.message(FRAME)).sequence == 2
            assert (await peer.message(HEARTBEAT)).sequence == 2

    run(main)


def silence(publisher: Publisher) -> None:
    """As if nothing had happened for so long that the next heartbeat is far away."""
    publisher._timer.cancel()
    publisher._heartbeats.due = publisher._timer_at = math.inf


def test_heartbeat_follows_the_last_frame_after_silence(tmp_path: Path) -> None:
    async def main() -> None:
        async with bus(tmp_path, {}) as (publisher, peer):
            await peer.message(HEARTBEAT)
            silence(publisher)
            publisher.publish("a", Entry(0, 0, 0, b""))
            while (await peer.message(HEARTBEAT)).sequence != 1:
                pass

    run(main)


def test_heartbeat_after_silence_tells_a_head_that_moved_without_a_frame(tmp_path: Path) -> None:
    async def main() -> None:
        rings = {"a": ring(3)}
        async with bus(tmp_path, rings) as (publisher, peer):
            await peer.message(HEARTBEAT)
            silence(publisher)
            head = from_offsets(EPOCH, [9])
            rings["a"].advance(head)
            publisher.head_moved()
            while unpack_heads((await peer.message(HEARTBEAT)).frame) != {"a": head}:
                pass

    run(main)


def test_worker_that_connects_after_silence_gets_a_heartbeat(tmp_path: Path) -> None:
    async def main() -> None:
        async with bus(tmp_path, {}) as (publisher, peer):
            await peer.message(HEARTBEAT)
            silence(publisher)
            other = Peer(tmp_path)
            try:
                await other.message(HEARTBEAT)
            finally:
                other.close()

    run(main)


def test_heartbeat_has_the_head_of_every_ring(tmp_path: Path) -> None:
    async def main() -> None:
        async with bus(tmp_path, {"a": ring(3)}) as (_, peer):
            heartbeat = await peer.message(HEARTBEAT)
            assert unpack_heads(heartbeat.frame) == {"a": from_offsets(EPOCH, [3])}

    run(main)


def test_new_run_has_another_id_and_counts_from_the_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with bus(tmp_path, {}) as (publisher, peer):
            before = (await peer.message(HEARTBEAT)).run
            publisher.publish("a", Entry(0, 0, 0, b""))
            publisher.break_run()
            while (heartbeat := await peer.message(HEARTBEAT)).run == before:
                pass
            assert heartbeat.sequence == 0
            publisher.publish("a", Entry(0, 1, 0, b""))
            while (frame := await peer.message(FRAME)).run == before:
                pass
            assert frame.sequence == 1

    run(main)


@pytest.mark.parametrize(
    ("have", "offsets"),
    [
        pytest.param(None, [0, 1, 2, 3], id="nothing"),
        pytest.param(from_offsets(EPOCH, [3]), [3], id="a part"),
        pytest.param(from_offsets(EPOCH, [4]), [], id="everything"),
        pytest.param(from_offsets("ffff0000", [3]), [0, 1, 2, 3], id="another epoch"),
    ],
)
def test_sync_reply_has_the_frames_that_the_worker_lacks(
    tmp_path: Path, have: Position | None, offsets: list[int]
) -> None:
    async def main() -> None:
        async with bus(tmp_path, {"b": ring(4)}) as (_, peer):
            reply, frames = await peer.sync({"a": None, "b": have})
            assert [(each.stream, each.offset) for each in frames] == [(1, at) for at in offsets]
            assert (reply.ask, reply.more) == (7, False)
            # A stream without a known topic is not in the reply.
            assert {name: state.head for name, state in reply.streams.items()} == {
                "b": from_offsets(EPOCH, [4])
            }

    run(main)


def test_sync_reply_is_bounded_and_shows_that_more_is_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPLY_BYTES", 100)

    async def main() -> None:
        async with bus(tmp_path, {"a": ring(25)}) as (_, peer):
            have: Position | None = None
            counts = []
            more = True
            while more:
                reply, frames = await peer.sync({"a": have})
                counts.append(len(frames))
                have, more = from_offsets(EPOCH, [sum(counts)]), reply.more
            assert counts == [10, 10, 5]

    run(main)


def test_removed_or_replaced_sockets_are_noticed(tmp_path: Path) -> None:
    async def main() -> None:
        async with bus(tmp_path, {}) as (publisher, _):
            assert publisher.reachable()
            (tmp_path / "sync").unlink()
            assert not publisher.reachable()
            (tmp_path / "sync").write_text("another process")
            assert not publisher.reachable()

    run(main)


def test_worker_gets_frames_of_the_streams_with_the_same_key_rule_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with bus(tmp_path, {name: ring(3) for name in RULES}) as (_, peer):
            for rules, streams in (
                (None, ["a", "b"]),
                (RULES, ["a", "b"]),
                ({"a": None, "b": "/meter"}, ["a"]),
                ({"a": "record", "b": None}, []),
                ({"b": "record", "new": None}, ["b"]),
            ):
                reply, frames = await peer.sync({}, rules)
                assert sorted(reply.streams) == streams
                assert {["a", "b"][each.stream] for each in frames} == {*streams}
                # With nothing to ask for once more, whatever was left out.
                assert not reply.more
                # By these, a worker knows what the indexes mean.
                assert reply.rules is not None
                assert [*reply.rules.items()] == [("a", None), ("b", "record")]

    run(main)
