"""A worker's streams: frames come in from the bus, and go out to the clients that subscribed."""

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
from energyws.protocol import event_stream, json_lines
from energyws.protocol.deflate import Compressor
from energyws.protocol.forms import Encode, Form, Kept
from energyws.protocol.frame_position import covering
from energyws.protocol.messages import BadClientMessage, Subscribe
from energyws.protocol.position import Position
from energyws.settings import History
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import StartPoint
from energyws.stream.recovery import history_request
from energyws.stream.ring import Entry, Ring
from workers.gauges import record_ring_depth
from workers.runtime import crash_on_error
from workers.websocket.fanout.fanout import Fanout
from workers.websocket.fanout.history_client import HistoryClient
from workers.websocket.fanout.pace import Pace
from workers.websocket.fanout.requests import MAX_TEXT, HistoryRateLimit, PendingRequest
from workers.websocket.fanout.subscription import FanoutClient
from workers.websocket.fanout.turns import Turns
from workers.websocket.io_uring.send_queue import SendQueue

# Frames in another form that are kept, with their originals: room for some thousand real records,
# or some hundred of the form that costs less than compression.
COMPRESSED_CACHE_BYTES: Final = 8 * 1024 * 1024
EVENTS_CACHE_BYTES: Final = 2 * 1024 * 1024

_log = Log("hub")


class Hub:
    """The bus's BusSink and the log's ChunkListener, and where clients subscribe.

    on_synced: called whenever the hub has everything that the consumer had.
    """

    def __init__(
        self,
        streams: Iterable[str],
        history: History,
        log: HistoryClient,
        row: Row,
        on_synced: Callable[[], None],
        queue: SendQueue | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.streams = frozenset(streams)
        self.turns = Turns()
        self._loop = asyncio.get_running_loop()
        self._history = history
        self._on_synced = on_synced
        self._row = row
        self._log = log
        self._queue = queue
        self._pace = pace
        log.listen(self)
        self._fanouts: dict[str, Fanout] = {}
        # Over the same rings, made for the first client of a stream that takes another form.
        self._encoded: dict[tuple[str, Form], Fanout] = {}
        self._encode: dict[Form, Encode] = {
            Form.DEFLATE: Compressor(COMPRESSED_CACHE_BYTES),
            Form.SSE: Kept(event_stream.encode, EVENTS_CACHE_BYTES),
            # Few clients take these at a time, and seldom the same frames.
            Form.LINES: json_lines.encode,
        }
        # Between the first and the last part of what the consumer hands over: old records come.
        self._syncing = False
        # Streams whose next frames may come in another order than those before: a new run of the
        # consumer read them.
        self._reordered: set[str] = set()
        # In order; only the first one of each client is worked on.
        self._pending: dict[FanoutClient, deque[PendingRequest]] = {}
        self._rate_limit = HistoryRateLimit()
        # Clients that have asked the log too often, until they may ask again.
        self._limited: dict[FanoutClient, asyncio.TimerHandle] = {}

    def close(self) -> None:
        """Send nothing more."""
        self.turns.close()
        for timer in self._limited.values():
            timer.cancel()

    def have(self) -> dict[str, Position | None]:
        return {
            name: self._fanouts[name].ring.head if name in self._fanouts else None
            for name in self.streams
        }

    def set_floor(self, stream: str, floor: Position) -> None:
        """The consumer's ring begins at `floor`; earlier records come from the log."""
        self._syncing = True
        fanout = self._fanouts.get(stream)
        if fanout is None:
            ring = Ring(self._history, floor)
            self._fanouts[stream] = fanout = Fanout(
                stream, ring, self._log, self._row, None, self._queue, self._pace
            )
            self.turns.fanouts.append(fanout)
        elif fanout.ring.epoch != floor.epoch:
            _log.warning("stream has a new epoch", stream=stream, position=floor)
            self._log.forget(stream)
            ring = Ring(self._history, floor)
            for each in self._all(stream):
                each.restart(ring)
            for pending in self._pending.values():
                # The log is asked again once everything has been handed over.
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
            self.turns.schedule()
        else:
            self._reordered.add(stream)

    def append(self, stream: str, entry: Entry) -> None:
        ring = self._fanouts[stream].ring
        if not ring.covers(entry.partition, entry.offset):
            now = time.monotonic()
            if stream in self._reordered:
                entry = self._in_order(stream, ring, entry)
            ring.append(entry, now)
            self._row.add(Field.FRAMES)
            self.turns.schedule_after_rest(now)

    def _in_order(self, stream: str, ring: Ring, entry: Entry) -> Entry:
        """The entry with a position that covers all of the ring."""
        frame = covering(entry.frame, ring.head)
        if frame is not entry.frame:
            return entry._replace(frame=frame)
        self._reordered.discard(stream)
        return entry

    def advance(self, stream: str, head: Position) -> None:
        fanout = self._fanouts.get(stream)
        if fanout is not None and fanout.ring.epoch == head.epoch:
            fanout.ring.advance(head)

    def synced(self) -> None:
        self._syncing = False
        for client in list(self._pending):
            self._proceed(client)
        self._on_synced()

    def head(self, stream: str) -> Position | None:
        """The position after everything that has come; None before the topic is found."""
        fanout = self._fanouts.get(stream)
        return None if fanout is None else fanout.ring.head

    def subscribe(self, client: FanoutClient, request: Subscribe) -> bool:
        """Subscribe to all streams or to none; False: it waits until their topics are found.

        Replaces pending requests for the same streams. Raises BadClientMessage for a client that
        requests more and more without waiting for an answer.
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
        """End these subscriptions, and pending requests for them."""
        gone = set(streams)
        for name in gone & self._fanouts.keys():
            self._fanout(name, client).leave(client)
        self._withdraw(client, gone)
        self._proceed(client)

    def leave(self, client: FanoutClient) -> None:
        for fanout in self.turns.fanouts:
            fanout.leave(client)
        self._rate_limit.forget(client)
        if (timer := self._limited.pop(client, None)) is not None:
            timer.cancel()
        for pending in self._pending.pop(client, ()):
            for name in pending.wanted:
                self._log.withdraw(client, name)

    def pause_writing(self, client: FanoutClient) -> None:
        for fanout in self.turns.fanouts:
            fanout.pause_writing(client)

    def resume_writing(self, client: FanoutClient) -> None:
        for fanout in self.turns.fanouts:
            fanout.resume_writing(client)
        self.turns.schedule()

    def backlogged(self, client: FanoutClient) -> None:
        """A client's transport holds bytes that its socket did not take."""
        for fanout in self.turns.fanouts:
            fanout.backlogged(client)

    def tick(self) -> None:
        """To be called about once a second: trims rings, settles clients that are ahead, counts."""
        now = time.monotonic()
        self._log.tick()
        for fanout in self._fanouts.values():
            fanout.ring.trim(now)
        record_ring_depth(self._row, [fanout.ring for fanout in self._fanouts.values()])
        for fanout in self.turns.fanouts:
            fanout.catch_up.tick()
        lagging = sum(len(fanout.catch_up) for fanout in self.turns.fanouts)
        self._row[Field.LAGGING] = lagging
        self._row[Field.HISTORY_QUESTIONS] = self._log.waiting
        if lagging:
            self.turns.schedule()

    def chunk_arrived(self, stream: str, position: Position) -> None:
        for fanout in self._all(stream):
            fanout.catch_up.arrived(position)
        self.turns.schedule()

    def chunk_failed(self, stream: str, position: Position) -> None:
        for fanout in self._all(stream):
            fanout.catch_up.failed(position)

    def _fanout(self, name: str, client: FanoutClient) -> Fanout:
        """The fan-out of a stream that serves this client."""
        plain = self._fanouts[name]
        form = client.form
        if form is Form.PLAIN:
            return plain
        if (name, form) not in self._encoded:
            ring, encode = plain.ring, self._encode[form]
            fanout = Fanout(name, ring, self._log, self._row, encode, self._queue, self._pace)
            self._encoded[name, form] = fanout
            self.turns.fanouts.append(fanout)
        return self._encoded[name, form]

    def _all(self, name: str) -> list[Fanout]:
        return [fanout for fanout in self.turns.fanouts if fanout.name == name]

    def _withdraw(self, client: FanoutClient, gone: set[str]) -> None:
        """Take these streams out of a client's pending requests."""
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
                client.history_unavailable()
                return
            if not first.asked or first.wanted:
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
            self.turns.schedule()
        if not pending:
            self._pending.pop(client, None)

    def _ask(self, client: FanoutClient, pending: PendingRequest, now: float) -> bool:
        """Ask the log for what the rings lack, now or later; False: its queue is full."""
        request = pending.request
        back = [name for name in request.streams if request.wants_history(name)]
        if back and client in self._limited:
            # It has asked too often: even parsing its positions has to wait.
            self._suspend(client, back)
            return True
        lacking = {
            name: find
            for name in back
            if (find := history_request(name, self._fanouts[name].ring, request)) is not None
        }
        self._suspend(client, lacking)
        if lacking and (wait := self._rate_limit.ask(client, lacking, now)) > 0:
            self._limited[client] = self._loop.call_later(wait, self._ask_later, client)
            return True
        pending.asked = True
        pending.wanted = set(lacking)
        for name, find in lacking.items():
            try:
                self._log.find(client, find, partial(self._on_found, client, pending, name))
            except QueueFull:
                return False
        return True

    def _suspend(self, client: FanoutClient, streams: Iterable[str]) -> None:
        """End the old subscriptions: a client has none while it waits for the log."""
        for name in streams:
            self._fanout(name, client).leave(client)

    @crash_on_error
    def _ask_later(self, client: FanoutClient) -> None:
        del self._limited[client]
        self._proceed(client)

    def _on_found(
        self, client: FanoutClient, pending: PendingRequest, name: str, found: StartPoint | None
    ) -> None:
        requests = self._pending.get(client)
        if requests is None or requests[0] is not pending:
            return
        if found is None:
            client.history_unavailable()
            return
        pending.found[name] = found
        pending.wanted.discard(name)
        self._proceed(client)
