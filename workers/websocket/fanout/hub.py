"""A worker's streams: what the bus delivers goes in, what clients subscribed to comes out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from energyws.errors import BAD_MESSAGE
from energyws.logs.events import Log
from energyws.process.board import Field, Row
from energyws.protocol.deflate import Compressor
from energyws.protocol.messages import BadClientMessage, Subscribe
from energyws.protocol.position import Position
from energyws.settings import History
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import StartPoint
from energyws.stream.recovery import history_request
from energyws.stream.ring import Entry, Ring
from workers.gauges import record_ring_depth
from workers.runtime import crash_on_error
from workers.websocket.fanout.fanout import Fanout, FanoutClient
from workers.websocket.fanout.requests import (
    MAX_TEXT,
    HistoryRateLimit,
    HistorySource,
    PendingRequest,
    Told,
)

WRITES_PER_TURN: Final = 1_000
# After everybody was served, live delivery rests for half of the time that it took: where frames
# come faster than that, more of them share a write, and a third of the time is left for others.
REST_SHARE: Final = 0.5
MAX_REST_SECONDS: Final = 0.02
# Compressed frames that are kept, with what they were made from: some thousand of real records.
SHRUNK_BYTES: Final = 8 * 1024 * 1024

_log = Log("hub")


class Hub:
    """The sink of the bus, and the place where clients subscribe."""

    def __init__(
        self,
        streams: Iterable[str],
        history: History,
        open_log: Callable[[Told, Told], HistorySource],
        row: Row,
        on_synced: Callable[[], None],
    ) -> None:
        self.streams = frozenset(streams)
        self._loop = asyncio.get_running_loop()
        self._history = history
        self._on_synced = on_synced
        self._row = row
        self._log = open_log(self._on_chunk, self._on_failure)
        self._fanouts: dict[str, Fanout] = {}
        # Over the same rings, for clients that take compressed frames: from the first of them on.
        self._compressed: dict[str, Fanout] = {}
        self._shrink = Compressor(SHRUNK_BYTES)
        # Whose first turn it is rotates.
        self._order: deque[Fanout] = deque()
        self._scheduled = False
        # When everybody's turn began; None when nothing is under way.
        self._began: float | None = None
        self._rest_until = 0.0
        self._resting: asyncio.TimerHandle | None = None
        # Between the first and the last part of what the consumer hands over: what comes is old.
        self._syncing = False
        # In order; only the first one of each client is worked on.
        self._pending: dict[FanoutClient, deque[PendingRequest]] = {}
        # Clients that have asked the log too often wait here until they may ask again.
        self._pace = HistoryRateLimit()
        self._later: dict[FanoutClient, asyncio.TimerHandle] = {}

    def close(self) -> None:
        """Ask nothing more, and send nothing more."""
        self._log.close()
        for timer in self._later.values():
            timer.cancel()
        if self._resting is not None:
            self._resting.cancel()

    def have(self) -> dict[str, Position | None]:
        """The head of each stream's ring; None for a stream not found yet."""
        return {
            name: self._fanouts[name].ring.head if name in self._fanouts else None
            for name in self.streams
        }

    def set_floor(self, stream: str, floor: Position) -> None:
        """The consumer's ring begins at `floor`; what lies between is replayed from the log."""
        self._syncing = True
        fanout = self._fanouts.get(stream)
        if fanout is None:
            ring = Ring(self._history, floor)
            self._fanouts[stream] = fanout = Fanout(stream, ring, self._log, self._row)
            self._order.append(fanout)
        elif fanout.ring.epoch != floor.epoch:
            _log.warning("stream has a new epoch", stream=stream, position=floor)
            self._log.forget(stream)
            ring = Ring(self._history, floor)
            for each in self._all(stream):
                each.restart(ring)
            for pending in self._pending.values():
                # Asked again, once everything has been handed over.
                pending[0].asked = False
                pending[0].found.clear()
        elif floor.beyond(fanout.ring.head):
            _log.warning(
                "missed more than the consumer remembers: replaying from the log",
                stream=stream,
                position=fanout.ring.head,
                floor=floor,
            )
            ring = Ring(self._history, floor)
            for each in self._all(stream):
                each.reopen(ring)
            self._schedule()

    def append(self, stream: str, entry: Entry) -> None:
        """The next frame; one that is covered already is dropped."""
        ring = self._fanouts[stream].ring
        if not ring.covers(entry.partition, entry.offset):
            now = time.monotonic()
            ring.append(entry, now)
            self._row.add(Field.FRAMES)
            self._schedule_after_rest(now)

    def advance(self, stream: str, head: Position) -> None:
        """The stream was read up to `head`."""
        fanout = self._fanouts.get(stream)
        if fanout is not None and fanout.ring.epoch == head.epoch:
            fanout.ring.advance(head)

    def synced(self) -> None:
        """Everything that the consumer had has been handed over."""
        self._syncing = False
        for client in list(self._pending):
            self._proceed(client)
        self._on_synced()

    def subscribe(self, client: FanoutClient, request: Subscribe) -> bool:
        """Subscribe, all streams or none; False: it waits until their topics are found.

        It takes the place of what waits for the same streams. Raises BadClientMessage for a client
        that asks for more and more without waiting for an answer.
        """
        self._withdraw(client, set(request.streams))
        pending = self._pending.setdefault(client, deque())
        pending.append(PendingRequest(request))
        if len(pending) > 1 and sum(each.text() for each in pending) > MAX_TEXT:
            pending.pop()
            raise BadClientMessage(BAD_MESSAGE, "too many subscriptions wait for their answers")
        self._proceed(client)
        return self._fanouts.keys() >= set(request.streams)

    def unsubscribe(self, client: FanoutClient, streams: Iterable[str]) -> None:
        """End these subscriptions, also where they wait."""
        gone = set(streams)
        for name in gone & self._fanouts.keys():
            self._fanout(name, client).leave(client)
        self._withdraw(client, gone)
        self._proceed(client)

    def leave(self, client: FanoutClient) -> None:
        """Forget a client."""
        for fanout in self._order:
            fanout.leave(client)
        self._pace.forget(client)
        if (timer := self._later.pop(client, None)) is not None:
            timer.cancel()
        for pending in self._pending.pop(client, ()):
            for name in pending.wanted:
                self._log.withdraw(client, name)

    def pause_writing(self, client: FanoutClient) -> None:
        """A client's transport takes no more for now."""
        for fanout in self._order:
            fanout.pause_writing(client)

    def resume_writing(self, client: FanoutClient) -> None:
        """A client's transport has room again."""
        for fanout in self._order:
            fanout.resume_writing(client)
        self._schedule()

    def tick(self) -> None:
        """Once a second or so: age out frames, settle clients that were ahead, count."""
        now = time.monotonic()
        self._log.tick()
        for fanout in self._fanouts.values():
            fanout.ring.trim(now)
        record_ring_depth(self._row, [fanout.ring for fanout in self._fanouts.values()])
        lagging = sum(fanout.lagging for fanout in self._order)
        self._row[Field.LAGGING] = lagging
        self._row[Field.HISTORY_QUESTIONS] = self._log.waiting
        if lagging:
            self._schedule()

    def _fanout(self, name: str, client: FanoutClient) -> Fanout:
        """Who serves this client."""
        plain = self._fanouts[name]
        if not client.compressed:
            return plain
        if name not in self._compressed:
            fanout = Fanout(name, plain.ring, self._log, self._row, self._shrink)
            self._compressed[name] = fanout
            self._order.append(fanout)
        return self._compressed[name]

    def _all(self, name: str) -> list[Fanout]:
        """All who serve a stream."""
        return [fanout for fanout in self._order if fanout.name == name]

    def _withdraw(self, client: FanoutClient, gone: set[str]) -> None:
        """Of these streams a client awaits no answer any more."""
        pending = self._pending.get(client)
        if pending is None:
            return
        left: deque[PendingRequest] = deque()
        for each in pending:
            for name in each.wanted & gone:
                self._log.withdraw(client, name)
            if not gone.issuperset(each.request.streams):
                each.drop(gone)
                left.append(each)
        if left:
            self._pending[client] = left
        else:
            del self._pending[client]

    def _proceed(self, client: FanoutClient) -> None:
        """Answer what can be answered of a client's requests, in order."""
        now = time.monotonic()
        pending = self._pending.get(client)
        while pending and not self._syncing:
            first = pending[0]
            request = first.request
            if not self._fanouts.keys() >= set(request.streams):
                return
            if not first.asked and not self._ask(client, first, now):
                client.unavailable()
                return
            if not first.asked:
                return
            if first.wanted:
                return
            pending.popleft()
            client.subscribed(
                {
                    name: self._fanout(name, client).subscribe(
                        client, request, first.found.get(name), now
                    )
                    for name in request.streams
                }
            )
            self._schedule()
        if not pending:
            self._pending.pop(client, None)

    def _ask(self, client: FanoutClient, pending: PendingRequest, now: float) -> bool:
        """Ask the log what the rings do not have, or later; False: it is asked for too much."""
        request = pending.request
        back = [name for name in request.streams if request.wants_history(name)]
        if back and client in self._later:
            # It has asked too often: not even its position is looked at before its time.
            self._suspend(client, back)
            return True
        queries = {
            name: query
            for name in back
            if (query := history_request(name, self._fanouts[name].ring, request)) is not None
        }
        self._suspend(client, queries)
        if queries and (wait := self._pace.ask(client, queries, now)) > 0:
            self._later[client] = self._loop.call_later(wait, self._ask_later, client)
            return True
        pending.asked = True
        pending.wanted = set(queries)
        for name, query in queries.items():
            try:
                self._log.find(client, query, partial(self._on_found, client, pending, name))
            except QueueFull:
                return False
        return True

    def _suspend(self, client: FanoutClient, streams: Iterable[str]) -> None:
        """Until the log has answered it has no subscription: the old one must not run on."""
        for name in streams:
            self._fanout(name, client).leave(client)

    @crash_on_error
    def _ask_later(self, client: FanoutClient) -> None:
        del self._later[client]
        self._proceed(client)

    def _on_found(
        self, client: FanoutClient, pending: PendingRequest, name: str, found: StartPoint | None
    ) -> None:
        requests = self._pending.get(client)
        if requests is None or requests[0] is not pending:
            return
        if found is None:
            client.unavailable()
            return
        pending.found[name] = found
        pending.wanted.discard(name)
        self._proceed(client)

    def _on_chunk(self, stream: str, position: Position) -> None:
        for fanout in self._all(stream):
            fanout.arrived(position)
        self._schedule()

    def _on_failure(self, stream: str, position: Position) -> None:
        for fanout in self._all(stream):
            fanout.failed(position)

    def _schedule(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    @crash_on_error
    def _turn(self) -> None:
        self._scheduled = False
        self._resting = None
        now = time.monotonic()
        if self._began is None:
            self._began = now
        writes = WRITES_PER_TURN
        self._order.rotate(-1)
        unserved = False
        for fanout in self._order:
            if writes <= 0:
                unserved = True
                break
            writes = fanout.work(writes, now)
        if unserved or any(fanout.is_busy() for fanout in self._order):
            self._schedule()
            return
        now = time.monotonic()
        self._rest_until = now + min((now - self._began) * REST_SHARE, MAX_REST_SECONDS)
        self._began = None
        if any(fanout.has_news() for fanout in self._order):
            self._schedule_after_rest(now)

    def _schedule_after_rest(self, now: float) -> None:
        if self._scheduled or self._resting is not None:
            return
        if now >= self._rest_until:
            self._schedule()
        else:
            self._resting = self._loop.call_later(self._rest_until - now, self._turn)
