"""The ZeroMQ link: one publisher in the consumer, one subscriber in each worker.

The pattern is Clone (zguide chapter 5); energyws.stream.bus_messages has the layout and the rules.
PUB drops for a subscriber whose queue is full, and says nothing: the dense sequence tells the
subscriber, and where no further frame comes, the heartbeat does.

ZeroMQ's descriptor is edge-triggered (zmq_getsockopt ZMQ_FD): once readable, a socket must be read
until EAGAIN, or the reader must come back by itself; a bounded number per turn keeps the loop fair.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import zmq

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.protocol.position import Position
from energyws.settings import Bus
from energyws.stream.bus_messages import (
    FRAME,
    HEARTBEAT,
    BadMessage,
    BusMessage,
    StreamState,
    SyncReply,
    SyncRequest,
    pack,
    pack_heads,
    unpack,
    unpack_heads,
    unpack_reply,
    unpack_request,
)
from energyws.stream.ring import Entry, Ring
from workers.runtime import crash_on_error

MESSAGES_PER_TURN: Final = 256
REPLY_BYTES: Final = 1 << 20
# Longer than an answer takes, short enough that a restarted consumer is asked again soon.
ASK_AGAIN_SECONDS: Final = 1.0
RECONNECT_MILLISECONDS: Final = 20

_log = Log("bus")


def _endpoint(directory: Path, name: str) -> str:
    return f"ipc://{directory / name}"


def _inodes(paths: Sequence[Path]) -> list[int | None]:
    return [path.stat().st_ino if path.exists() else None for path in paths]


class SocketReader:
    """Calls `receive` for what arrives on a socket, a bounded number per turn of the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        socket: zmq.Socket[bytes],
        receive: Callable[[list[bytes]], None],
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._receive = receive
        self._handle: asyncio.Handle | None = None
        loop.add_reader(socket.fileno(), self.drain)
        # What came before the reader was attached makes no further edge.
        self._again()

    @crash_on_error
    def drain(self) -> None:
        """Read up to MESSAGES_PER_TURN messages; come back if there may be more."""
        for _ in range(MESSAGES_PER_TURN):
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._receive(parts)
        self._again()

    def after_send(self) -> None:
        """Sending on the same socket may swallow the edge of a message that has just arrived."""
        self._again()

    def close(self) -> None:
        """Stop reading; the socket is closed by its owner."""
        self._loop.remove_reader(self._socket.fileno())
        if self._handle is not None:
            self._handle.cancel()

    def _again(self) -> None:
        if self._handle is None:
            self._handle = self._loop.call_soon(self._rescheduled)

    @crash_on_error
    def _rescheduled(self) -> None:
        self._handle = None
        self.drain()


class Publisher:
    """The consumer's end. `rings` is shared with the consumer, which fills it."""

    def __init__(
        self, directory: Path, settings: Bus, streams: Sequence[str], rings: Mapping[str, Ring]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._streams = tuple(streams)
        self._index = {name: index for index, name in enumerate(self._streams)}
        self._rings = rings
        self._run = secrets.randbits(63)
        self._sequence = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pub = self._context.socket(zmq.PUB)
        self._pub.setsockopt(zmq.LINGER, 0)
        self._pub.setsockopt(zmq.SNDHWM, settings.high_watermark_frames)
        self._pub.bind(_endpoint(directory, "frames"))
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self._router.bind(_endpoint(directory, "sync"))
        self._paths = tuple(directory / name for name in ("frames", "sync"))
        self._inodes = _inodes(self._paths)
        self._reader = SocketReader(self._loop, self._router, self._on_request)
        self._heartbeat = self._loop.call_soon(self._beat)

    def publish(self, stream: str, entry: Entry) -> None:
        """Send one frame to every worker, in the order of the calls."""
        self._sequence += 1
        index = self._index[stream]
        self._pub.send(pack(self._message(index, entry, self._sequence)), zmq.NOBLOCK)

    def break_run(self) -> None:
        """Start a new run: every worker compares what it has with the rings again."""
        self._run = secrets.randbits(63)
        self._sequence = 0
        self._beat_now()

    def reachable(self) -> bool:
        """Whether these sockets are still where they were bound, and not another's."""
        return _inodes(self._paths) == self._inodes

    def close(self) -> None:
        """Close the sockets; workers keep what they have."""
        self._heartbeat.cancel()
        self._reader.close()
        self._pub.close()
        self._router.close()
        self._context.term()

    def _message(self, index: int, entry: Entry, sequence: int) -> BusMessage:
        partition, offset, timestamp_ms, frame = entry
        return BusMessage(FRAME, index, partition, self._run, sequence, offset, timestamp_ms, frame)

    @crash_on_error
    def _beat(self) -> None:
        self._beat_now()
        self._heartbeat = self._loop.call_later(self._settings.heartbeat_seconds, self._beat)

    def _beat_now(self) -> None:
        heads = pack_heads({name: ring.head for name, ring in self._rings.items()})
        beat = BusMessage(HEARTBEAT, 0, 0, self._run, self._sequence, 0, 0, heads)
        self._pub.send(pack(beat), zmq.NOBLOCK)

    def _on_request(self, parts: list[bytes]) -> None:
        identity, body = parts
        request = unpack_request(body)
        self._router.send_multipart([identity, *self._answer(request)], zmq.NOBLOCK)
        self._reader.after_send()

    def _answer(self, request: SyncRequest) -> list[bytes]:
        more = False
        room = REPLY_BYTES
        states: dict[str, StreamState] = {}
        frames: list[bytes] = []
        for index, name in enumerate(self._streams):
            ring = self._rings.get(name)
            if ring is None:
                continue
            have = request.have.get(name)
            begin = ring.first
            if have is not None and have.epoch == ring.epoch:
                begin = ring.locate(have).start
            else:
                have = None
            entries, upto = ring.read(begin, ring.end, max(room, 1), have)
            more = more or upto < ring.end
            room -= sum(len(entry.frame) for entry in entries)
            frames += [pack(self._message(index, entry, 0)) for entry in entries]
            states[name] = StreamState(ring.floor, ring.head)
        reply = SyncReply(request.ask, self._run, self._sequence, more, states)
        return [reply.pack(), *frames]


class BusSink(Protocol):
    """Where a subscriber puts what it receives: the worker's hub."""

    def have(self) -> dict[str, Position | None]:
        """The head of each stream's ring; None for a stream not found yet."""

    def begin(self, stream: str, floor: Position) -> None:
        """The consumer's ring begins at `floor`: nothing before it will be delivered."""

    def append(self, stream: str, entry: Entry) -> None:
        """The next frame; one that is covered already is dropped."""

    def advance(self, stream: str, head: Position) -> None:
        """The stream was read up to `head`."""

    def synced(self) -> None:
        """Everything that the consumer had has been handed over."""


class Subscriber:
    """A worker's end. Delivers to `sink` in bus order, without gaps it has not owned up to."""

    def __init__(
        self,
        directory: Path,
        settings: Bus,
        streams: Sequence[str],
        sink: BusSink,
        on_resync: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._streams = tuple(streams)
        self._sink = sink
        self._on_resync = on_resync
        self._run: int | None = None
        self._sequence = 0
        self._ask = 0
        self._asking: asyncio.TimerHandle | None = None
        # Frames that arrive while the answer is under way. What does not fit shows as a gap
        # afterwards, and is asked for again.
        self._waiting: deque[BusMessage] = deque()
        self._most_waiting = settings.high_watermark_frames
        self._limited = RateLimitedLog(_log, 10.0)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sub = self._context.socket(zmq.SUB)
        self._dealer = self._context.socket(zmq.DEALER)
        for socket in (self._sub, self._dealer):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
        self._sub.setsockopt(zmq.RCVHWM, settings.high_watermark_frames)
        # Everything: narrower subscriptions beyond the watermark vanish on reconnect.
        self._sub.setsockopt(zmq.SUBSCRIBE, b"")
        self._sub.connect(_endpoint(directory, "frames"))
        self._dealer.connect(_endpoint(directory, "sync"))
        self._sub_reader = SocketReader(self._loop, self._sub, self._on_published)
        self._dealer_reader = SocketReader(self._loop, self._dealer, self._on_reply)

    @property
    def syncing(self) -> bool:
        """Whether an answer is being waited for."""
        return self._asking is not None

    def close(self) -> None:
        """Close the sockets."""
        if self._asking is not None:
            self._asking.cancel()
        self._sub_reader.close()
        self._dealer_reader.close()
        self._sub.close()
        self._dealer.close()
        self._context.term()

    def _on_published(self, parts: list[bytes]) -> None:
        try:
            message = unpack(parts[0])
        except BadMessage as error:
            self._limited.error("bus message refused", reason=error)
            return
        self._follow(message)

    def _follow(self, message: BusMessage) -> None:
        if self.syncing:
            if message.kind == FRAME and len(self._waiting) < self._most_waiting:
                self._waiting.append(message)
        elif message.run != self._run:
            # The very first message says that the subscription works: from here on nothing is
            # missed unseen, so now is the time to ask for what came before.
            self._resync("first contact" if self._run is None else "new run")
        elif message.kind == HEARTBEAT:
            if message.sequence > self._sequence:
                self._resync("frames missing before a heartbeat")
                return
            for name, head in unpack_heads(message.frame).items():
                self._sink.advance(name, head)
        elif message.sequence == self._sequence + 1:
            self._sequence = message.sequence
            self._deliver(message)
        elif message.sequence > self._sequence:
            self._waiting.append(message)
            self._resync("frames missing")

    def _resync(self, reason: str) -> None:
        self._limited.info("synchronising with the consumer", kind=reason, reason=reason)
        if self._run is not None:
            self._on_resync()
        self._request()

    @crash_on_error
    def _request(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._ask += 1
        self._asking = self._loop.call_later(ASK_AGAIN_SECONDS, self._request)
        try:
            self._dealer.send(SyncRequest(self._ask, self._sink.have()).pack(), zmq.NOBLOCK)
        except zmq.Again:
            # No consumer is connected and the queue is full: the timer asks again.
            return
        self._dealer_reader.after_send()

    def _on_reply(self, parts: list[bytes]) -> None:
        reply = unpack_reply(parts[0])
        if not self.syncing or reply.ask != self._ask:
            return
        for name, state in reply.streams.items():
            self._sink.begin(name, state.floor)
        for part in parts[1:]:
            self._deliver(unpack(part))
        if reply.more:
            self._request()
            return
        assert self._asking is not None
        self._asking.cancel()
        self._asking = None
        self._run, self._sequence = reply.run, reply.sequence
        for name, state in reply.streams.items():
            self._sink.advance(name, state.head)
        self._sink.synced()
        waiting, self._waiting = self._waiting, deque()
        for message in waiting:
            # A gap among those that waited starts over, and the rest waits for the next answer.
            # What another run published before the answer is in it; after it, a heartbeat tells.
            if message.run == self._run:
                self._follow(message)

    def _deliver(self, message: BusMessage) -> None:
        entry = Entry(message.partition, message.offset, message.timestamp_ms, message.frame)
        self._sink.append(self._streams[message.stream], entry)
