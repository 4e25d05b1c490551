"""A worker's end of the bus: delivers frames in order, and asks for those that it has missed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
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
    KeyRules,
    SyncRequest,
    unpack,
    unpack_heads,
    unpack_sync_reply,
)
from energyws.stream.ring import Entry
from workers.bus.rendezvous import RECONNECT_MILLISECONDS, dealer, endpoint
from workers.bus.socket_reader import SocketReader
from workers.runtime import crash_on_error

# Longer than a reply takes, short enough that a restarted consumer is asked again soon.
ASK_AGAIN_SECONDS: Final = 1.0

_log = Log("bus")


class BusSink(Protocol):
    """Receives what arrives: the worker's hub."""

    def have(self) -> dict[str, Position | None]:
        """The head of each stream's ring; None for a stream not found yet."""

    def dispute(self, streams: Collection[str]) -> None:
        """Of these streams only, the consumer has another key rule: nothing of them will come."""

    def set_floor(self, stream: str, floor: Position) -> None:
        """The consumer's ring begins at `floor`: nothing before it will be delivered."""

    def append(self, stream: str, entry: Entry) -> None:
        """The next frame; the sink drops one that its ring covers already."""

    def advance(self, stream: str, head: Position) -> None:
        """The consumer has read the stream up to `head`."""

    def synced(self) -> None:
        """Everything that the consumer has in its rings has been delivered."""


class Subscriber:
    """Delivers to `sink` in bus order; at a gap, it first fills it, or sets a floor above it.

    rules: of the worker's settings. on_resync is called whenever frames were missed, or the
    consumer has started a new run.
    """

    def __init__(
        self,
        directory: Path,
        settings: Bus,
        rules: KeyRules,
        sink: BusSink,
        on_resync: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._rules = rules
        # By the consumer's index; None: frames that this worker does not take.
        self._streams: tuple[str | None, ...] = ()
        self._disputed: KeyRules = {}
        self._sink = sink
        self._on_resync = on_resync
        self._run: int | None = None
        self._sequence = 0
        self._ask = 0
        self._asking: asyncio.TimerHandle | None = None
        # Frames that arrive before the reply. Those that do not fit show as a gap afterwards, and
        # are requested again.
        self._waiting: deque[BusMessage] = deque()
        self._max_waiting = settings.high_watermark_frames
        self._limited = RateLimitedLog(_log, 10.0)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sub = self._context.socket(zmq.SUB)
        self._sub.setsockopt(zmq.LINGER, 0)
        self._sub.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
        self._sub.setsockopt(zmq.RCVHWM, settings.high_watermark_frames)
        # Everything: narrower subscriptions beyond the watermark vanish on reconnect.
        self._sub.setsockopt(zmq.SUBSCRIBE, b"")
        self._sub.connect(endpoint(directory, "frames"))
        self._dealer = dealer(self._context, directory, "sync")
        self._sub_reader = SocketReader(self._loop, self._sub, self._on_published, multipart=False)
        self._dealer_reader = SocketReader(self._loop, self._dealer, self._on_reply)

    @property
    def syncing(self) -> bool:
        """Whether a sync request has not been answered yet."""
        return self._asking is not None

    def close(self) -> None:
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
            if message.kind == FRAME and len(self._waiting) < self._max_waiting:
                self._waiting.append(message)
        elif message.run != self._run:
            # The very first message proves that the subscription works: from here on every gap is
            # noticed, so now is the time to ask for what came before.
            self._resync("first contact" if self._run is None else "new run")
        elif message.kind == HEARTBEAT:
            if message.sequence > self._sequence:
                self._resync("frames missing before a heartbeat")
                return
            for name, head in unpack_heads(message.frame).items():
                if name in self._streams:
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
            request = SyncRequest(self._ask, self._sink.have(), self._rules)
            self._dealer.send(request.pack(), zmq.NOBLOCK)
        except zmq.Again:
            # No consumer is connected and the queue is full: the timer tries again.
            return
        self._dealer_reader.after_send()

    def _on_reply(self, parts: list[bytes]) -> None:
        reply = unpack_sync_reply(parts[0])
        if not self.syncing or reply.ask != self._ask:
            return
        self._compare(reply.rules)
        for name, state in reply.streams.items():
            self._sink.set_floor(name, state.floor)
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
            # A gap among these starts another sync, and the rest waits for its reply. Frames of
            # another run are in this reply, or the next heartbeat announces that run.
            if message.run == self._run:
                self._follow(message)

    def _compare(self, theirs: KeyRules | None) -> None:
        """Find out which of the consumer's streams are for this worker."""
        ours = self._rules
        if theirs is None:
            # During an upgrade: a consumer of the version before.
            theirs = dict(sorted(ours.items()))
        before = self._disputed
        disputed = {n: rule for n, rule in theirs.items() if n in ours and ours[n] != rule}
        for name in disputed.keys() - before.keys():
            _log.warning(
                "stream stands still until consumer and worker take its keys from the same place",
                stream=name,
                key_from=ours[name],
                consumer_key_from=disputed[name],
            )
        for name in before.keys() - disputed.keys():
            _log.info("stream goes on", stream=name, key_from=ours[name])
        self._disputed = disputed
        self._streams = tuple(n if n in ours and n not in disputed else None for n in theirs)
        self._sink.dispute(disputed)

    def _deliver(self, message: BusMessage) -> None:
        stream = self._streams[message.stream]
        if stream is not None:
            entry = Entry(message.partition, message.offset, message.timestamp_ms, message.frame)
            self._sink.append(stream, entry)
