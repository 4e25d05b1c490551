"""The fan-outs of a worker: of each stream one in each form that its clients take.

And another in each form for those of its clients that get some keys only.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from energyws.process.board import Row
from energyws.protocol import event_stream, json_lines
from energyws.protocol.deflate import Compressor
from energyws.protocol.forms import Encode, Form, Kept
from energyws.protocol.messages import Subscribe, Subscribed
from energyws.protocol.position import Position
from energyws.stream.history import StartPoint
from energyws.stream.ring import Ring
from workers.websocket.fanout.fanout import Fanout
from workers.websocket.fanout.history_client import HistoryClient
from workers.websocket.fanout.keyed_fanout import KeyedFanout
from workers.websocket.fanout.subscription import FanoutClient
from workers.websocket.fanout.turns import Turns
from workers.websocket.io_uring.send_queue import SendQueue
from workers.websocket.pace import Pace
from workers.websocket.snapshots.feed import Feed

# Frames in another form that are kept, with their originals: room for some thousand real records,
# or some hundred of the form that costs less than compression.
COMPRESSED_CACHE_BYTES: Final = 8 * 1024 * 1024
EVENTS_CACHE_BYTES: Final = 2 * 1024 * 1024
# Clients that get some keys are sent compressed frames where so many share them: compressing one
# takes as long as writing it to two of them.
COMPRESS_FROM: Final = 4


class Fanouts:
    """plain: of the streams whose topics are found; keyed: those for some keys only.

    All fan-outs of a stream share its ring. disputed: the streams that stand still for now, because
    the consumer has another key rule than this worker.
    """

    def __init__(
        self,
        turns: Turns,
        log: HistoryClient,
        row: Row,
        queue: SendQueue | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.plain: dict[str, Fanout] = {}
        self.keyed: dict[tuple[str, Form], KeyedFanout] = {}
        self.disputed: frozenset[str] = frozenset()
        self._turns = turns
        self._log = log
        self._row = row
        self._queue = queue
        self._pace = pace
        # Made for the first client of a stream that takes another form.
        self._encoded: dict[tuple[str, Form], Fanout] = {}
        self._encode: dict[Form, Encode] = {
            Form.DEFLATE: Compressor(COMPRESSED_CACHE_BYTES),
            Form.SSE: Kept(event_stream.encode, EVENTS_CACHE_BYTES),
            # Few clients take these at a time, and seldom the same frames.
            Form.LINES: json_lines.encode,
        }

    def serves(self, names: Collection[str]) -> bool:
        """Whether subscriptions to all of these streams can begin."""
        return self.plain.keys() >= set(names) and self.disputed.isdisjoint(names)

    def begin(self, name: str, ring: Ring) -> None:
        """The topic of a stream is found."""
        self.plain[name] = self._make(name, ring, None)

    def subscribe(
        self,
        name: str,
        client: FanoutClient,
        request: Subscribe,
        found: StartPoint | None,
        now: float,
        feed: Feed | None = None,
    ) -> Subscribed:
        """Add or replace a client's subscription, see Fanout.subscribe.

        One that has other keys from now on misses none of those that it keeps, and gets none again;
        if it was amid a snapshot, the rest of that comes first.
        """
        some = name in request.filters or request.max_rate is not None
        left: Position | None = None
        for before in self._for(name, client):
            if not request.wants_history(name) and (some or isinstance(before, KeyedFanout)):
                left = before.place(client) or left
                if feed is None and (feed := before.feed(client)) is not None:
                    feed.goes_on(request.filters.get(name))
            before.leave(client)
        fanout = self._of_keys(name, client) if some else self._of(name, client)
        return fanout.subscribe(client, request, found, now, feed, left)

    def leave(self, name: str, client: FanoutClient) -> None:
        """End a client's subscription to a stream, if there is one."""
        for fanout in self._for(name, client):
            fanout.leave(client)

    def all(self, name: str) -> list[Fanout]:
        """Those of a stream."""
        return [fanout for fanout in self._turns.fanouts if fanout.name == name]

    def _for(self, name: str, client: FanoutClient) -> list[Fanout]:
        """Those that may have a client's subscription to a stream."""
        form = client.form
        plain = self.plain.get(name) if form is Form.PLAIN else self._encoded.get((name, form))
        keyed = self.keyed.get((name, form))
        return [fanout for fanout in (plain, keyed) if fanout is not None]

    def _of(self, name: str, client: FanoutClient) -> Fanout:
        plain = self.plain[name]
        form = client.form
        if form is Form.PLAIN:
            return plain
        if (name, form) not in self._encoded:
            self._encoded[name, form] = self._make(name, plain.ring, self._encode[form])
        return self._encoded[name, form]

    def _of_keys(self, name: str, client: FanoutClient) -> KeyedFanout:
        form = client.form
        if (name, form) not in self.keyed:
            # Without keys, all records supersede each other.
            self.plain[name].ring.index_keys()
            made = KeyedFanout(
                name,
                self.plain[name].ring,
                self._log,
                self._row,
                self._encode.get(form),
                self._queue,
                self._pace,
                COMPRESS_FROM if form is Form.DEFLATE else 1,
            )
            self._turns.fanouts.append(made)
            self.keyed[name, form] = made
        return self.keyed[name, form]

    def _make(self, name: str, ring: Ring, encode: Encode | None) -> Fanout:
        made = Fanout(name, ring, self._log, self._row, encode, self._queue, self._pace)
        self._turns.fanouts.append(made)
        return made
