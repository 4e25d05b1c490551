"""A worker's streams: frames come in from the bus, and go out to the clients that subscribed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

from energyws.logs.events import Log
from energyws.process.board import Field, Row
from energyws.protocol.frame_position import covering
from energyws.protocol.messages import Subscribe
from energyws.protocol.position import Position
from energyws.settings import History, Server
from energyws.stream.ring import Entry, Ring
from workers.gauges import record_ring_depth
from workers.websocket.fanout.fanouts import Fanouts
from workers.websocket.fanout.history_client import HistoryClient
from workers.websocket.fanout.requests import WaitingRequests
from workers.websocket.fanout.subscription import FanoutClient
from workers.websocket.fanout.turns import Turns
from workers.websocket.io_uring.send_queue import SendQueue
from workers.websocket.pace import Pace
from workers.websocket.snapshots.client import SnapshotClient

POSITION_SECONDS: Final = Server().position_seconds
_log = Log("hub")


class Hub:
    """The bus's BusSink and the log's ChunkListener, and where clients subscribe.

    on_synced: called whenever the hub has everything that the consumer had. keyed: the streams that
    have keys. position_seconds: as in settings.Server. snapshots: None where no stream has any.
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
        keyed: Collection[str] = (),
        position_seconds: float = POSITION_SECONDS,
        snapshots: SnapshotClient | None = None,
    ) -> None:
        self.streams = frozenset(streams)
        self._position_seconds = position_seconds
        self.turns = Turns()
        self._history = history
        self._keyed = frozenset(keyed)
        self._on_synced = on_synced
        self._row = row
        self._log = log
        log.listen(self)
        self._fanouts = Fanouts(self.turns, log, row, queue, pace)
        self._waiting = WaitingRequests(
            self._fanouts, log, self.turns, history.max_scan_records, snapshots
        )
        # Streams whose next frames may come in another order than those before: a new run of the
        # consumer read them.
        self._reordered: set[str] = set()

    def close(self) -> None:
        """Send nothing more."""
        self.turns.close()
        self._waiting.close()

    def have(self) -> dict[str, Position | None]:
        return {name: self.head(name) for name in self.streams}

    def dispute(self, streams: Collection[str]) -> None:
        """Of these streams only, the consumer has another key rule than this worker.

        Their clients keep their places, and new ones wait.
        """
        self._fanouts.disputed = frozenset(streams)
        self._row[Field.DISPUTED] = len(streams)

    def set_floor(self, stream: str, floor: Position) -> None:
        """The consumer's ring begins at `floor`; earlier records come from the log."""
        self._waiting.held = True
        fanout = self._fanouts.plain.get(stream)
        if fanout is None:
            self._fanouts.begin(stream, self._ring(stream, floor))
        elif fanout.ring.epoch != floor.epoch:
            _log.warning("stream has a new epoch", stream=stream, position=floor)
            self._log.forget(stream)
            ring = self._ring(stream, floor)
            for each in self._fanouts.all(stream):
                each.restart(ring)
            self._waiting.ask_again()
        elif floor.beyond(fanout.ring.head):
            _log.warning(
                "missed more than the consumer remembers: replaying from the log",
                stream=stream,
                position=fanout.ring.head,
                floor=floor,
            )
            ring = self._ring(stream, floor)
            for each in self._fanouts.all(stream):
                each.reopen(ring)
            self.turns.schedule()
        else:
            self._reordered.add(stream)

    def _ring(self, stream: str, floor: Position) -> Ring:
        before = self._fanouts.plain.get(stream)
        indexed = before is not None and before.ring.keys is not None
        return Ring(self._history, floor, keyed=indexed or stream in self._keyed)

    def append(self, stream: str, entry: Entry) -> None:
        ring = self._fanouts.plain[stream].ring
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
        fanout = self._fanouts.plain.get(stream)
        if fanout is not None and fanout.ring.epoch == head.epoch:
            fanout.ring.advance(head)

    def synced(self) -> None:
        self._waiting.release()
        self._on_synced()

    def head(self, stream: str) -> Position | None:
        """The position after everything that has come; None before the topic is found."""
        fanout = self._fanouts.plain.get(stream)
        return None if fanout is None else fanout.ring.head

    def subscribe(self, client: FanoutClient, request: Subscribe) -> bool:
        """Subscribe to all streams or to none; False: it waits until they can be served.

        Raises BadClientMessage, see WaitingRequests.
        """
        self._waiting.add(client, request)
        return self._fanouts.serves(request.streams)

    def unsubscribe(self, client: FanoutClient, streams: Iterable[str]) -> None:
        """End these subscriptions, and pending requests for them."""
        gone = set(streams)
        for name in gone:
            self._fanouts.leave(name, client)
        self._waiting.withdraw(client, gone)

    def leave(self, client: FanoutClient) -> None:
        for fanout in self.turns.fanouts:
            fanout.leave(client)
        self._waiting.leave(client)

    def tell_positions(self, client: FanoutClient) -> None:
        """Tell a client that gets some keys only where it is, if it has not been told."""
        for fanout in self._fanouts.keyed.values():
            fanout.tell(client)

    def dismiss(self, client: FanoutClient) -> None:
        """End a client's subscriptions because it is sent away: it is told where it is."""
        keyed = self._fanouts.keyed.values()
        words = [word for fanout in keyed if (word := fanout.last_word(client)) is not None]
        self.leave(client)
        for word in words:
            client.write(word)

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
        rings = [fanout.ring for fanout in self._fanouts.plain.values()]
        for ring in rings:
            ring.trim(now)
        record_ring_depth(self._row, rings)
        for fanout in self.turns.fanouts:
            fanout.catch_up.tick()
        keyed = list(self._fanouts.keyed.values())
        for each in keyed:
            each.tick(self._position_seconds)
        self._row[Field.KEYED_SUBSCRIPTIONS] = sum(
            len(each.live.members) + len(each.catch_up) for each in keyed
        )
        self._row[Field.INDEX_KEYS] = sum(each.keyed.groups.keys for each in keyed)
        lagging = sum(len(fanout.catch_up) for fanout in self.turns.fanouts)
        self._row[Field.LAGGING] = lagging
        self._row[Field.HISTORY_QUESTIONS] = self._log.waiting
        if lagging or any(each.is_busy() for each in keyed):
            self.turns.schedule()

    def chunk_arrived(self, stream: str, position: Position) -> None:
        for fanout in self._fanouts.all(stream):
            fanout.catch_up.arrived(position)
        self.turns.schedule()

    def chunk_failed(self, stream: str, position: Position) -> None:
        for fanout in self._fanouts.all(stream):
            fanout.catch_up.failed(position)
