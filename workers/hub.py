"""A worker's streams: what the bus delivers goes in, what clients subscribed to comes out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from energyws.board import Field, Row
from energyws.log import Log
from energyws.position import Position
from energyws.protocol import Subscribe
from energyws.replay import Entry, Ring, gap_entries
from energyws.settings import History
from workers.fanout import Client, Fanout

WRITES_PER_TURN: Final = 1_000
# The reason in a `lagged` message about records that were never delivered to this worker.
GAP: Final = "HISTORY_EXCEEDED"

_log = Log("hub")


class Hub:
    """The sink of the bus, and the place where clients subscribe."""

    def __init__(
        self,
        streams: Iterable[str],
        history: History,
        row: Row,
        on_synced: Callable[[], None],
    ) -> None:
        self.streams = frozenset(streams)
        self._loop = asyncio.get_running_loop()
        self._history = history
        self._on_synced = on_synced
        self._row = row
        self._fanouts: dict[str, Fanout] = {}
        # Whose first turn it is rotates.
        self._order: deque[Fanout] = deque()
        self._scheduled = False
        # Requests for streams whose topic has not been found yet, in order.
        self._waiting: dict[Client, list[Subscribe]] = {}

    def have(self) -> dict[str, Position | None]:
        """The head of each stream's ring; None for a stream not found yet."""
        return {
            name: self._fanouts[name].ring.head if name in self._fanouts else None
            for name in self.streams
        }

    def begin(self, stream: str, floor: Position) -> None:
        """The consumer's ring begins at `floor`: own up to whatever lies between."""
        fanout = self._fanouts.get(stream)
        if fanout is None:
            fanout = Fanout(stream, Ring(self._history, floor), self._row)
            self._fanouts[stream] = fanout
            self._order.append(fanout)
        elif fanout.ring.epoch != floor.epoch:
            _log.warning("stream has a new epoch", stream=stream, position=floor)
            fanout.restart(Ring(self._history, floor))
        else:
            for entry in gap_entries(stream, fanout.ring.head, floor, GAP):
                _log.error(
                    "records lost",
                    stream=stream,
                    partition=entry.partition,
                    up_to_offset=entry.offset,
                )
                self.append(stream, entry)

    def append(self, stream: str, entry: Entry) -> None:
        """The next frame; one that is covered already is dropped."""
        ring = self._fanouts[stream].ring
        if not ring.covers(entry.partition, entry.offset):
            ring.append(entry, time.monotonic())
            self._row.add(Field.FRAMES)
            self._schedule()

    def advance(self, stream: str, head: Position) -> None:
        """The stream was read up to `head`."""
        fanout = self._fanouts.get(stream)
        if fanout is not None and fanout.ring.epoch == head.epoch:
            fanout.ring.advance(head)

    def synced(self) -> None:
        """Everything that the consumer had has been handed over."""
        waiting, self._waiting = self._waiting, {}
        for client, requests in waiting.items():
            for request in requests:
                self.subscribe(client, request)
        self._on_synced()

    def subscribe(self, client: Client, request: Subscribe) -> bool:
        """Subscribe to known streams, all or none; False: it waits until they are found."""
        if client in self._waiting or not self._fanouts.keys() >= set(request.streams):
            self._waiting.setdefault(client, []).append(request)
            return False
        now = time.monotonic()
        client.subscribed(
            {name: self._fanouts[name].subscribe(client, request, now) for name in request.streams}
        )
        self._schedule()
        return True

    def unsubscribe(self, client: Client, streams: Iterable[str]) -> None:
        """End these subscriptions, waiting ones too."""
        gone = set(streams)
        for name in gone & self._fanouts.keys():
            self._fanouts[name].leave(client)
        if (requests := self._waiting.pop(client, None)) is not None:
            kept = [request for request in requests if not gone & set(request.streams)]
            if kept:
                self._waiting[client] = kept

    def leave(self, client: Client) -> None:
        """Forget a client."""
        for fanout in self._fanouts.values():
            fanout.leave(client)
        self._waiting.pop(client, None)

    def resume_writing(self, client: Client) -> None:
        """A client's transport has room again."""
        for fanout in self._fanouts.values():
            fanout.resume_writing(client)
        self._schedule()

    def tick(self) -> None:
        """Once a second or so: age out frames, settle clients that were ahead, count."""
        now = time.monotonic()
        for fanout in self._fanouts.values():
            fanout.ring.trim(now)
        lagging = sum(fanout.lagging for fanout in self._fanouts.values())
        self._row[Field.LAGGING] = lagging
        if lagging:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        now = time.monotonic()
        writes = WRITES_PER_TURN
        self._order.rotate(-1)
        for fanout in self._order:
            writes = fanout.work(writes, now)
            if writes <= 0:
                break
        if any(fanout.has_work() for fanout in self._order):
            self._schedule()
