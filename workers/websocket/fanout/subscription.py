"""One client's interest in one stream, and what fan-out needs of the client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from energyws.protocol.forms import Form
from energyws.protocol.messages import OnLag, Subscribed
from energyws.protocol.position import Position
from energyws.stream.history import Chunk
from energyws.stream.key_index import Selection
from energyws.stream.recovery import StartsAt
from workers.websocket.fanout.crowd import NO_SEAT, Sink
from workers.websocket.snapshots.feed import Feed


class FanoutClient(Protocol):
    """A connection, as the hub sees it.

    writable: False while its transport is paused, and for good once it closes.
    form: that in which it takes frames.
    """

    writable: bool
    form: Form

    @property
    def subject(self) -> str:
        """The subject of its token: clients of one subject share its turns with the log."""

    @property
    def sink(self) -> Sink:
        """Its transport."""

    def write(self, data: bytes) -> None:
        """Send bytes as they are; tells the hub if its transport cannot send them all at once."""

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        """Tell it where its subscriptions begin, before their first frame."""

    def too_slow(self) -> None:
        """Close it: it fell off the ring, and its subscription says to disconnect it then."""

    def history_unavailable(self) -> None:
        """Close it: the history that it requested cannot be read at present."""

    def lagging(self, stream: str) -> None:
        """It was live, and does not read for now."""

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        """It is too slow, so this many frames were left out; by_choice: on_lag is `latest`."""


class EndingClient(FanoutClient, Protocol):
    """A client whose form ends."""

    def scanned(self, position: Position) -> None:
        """All records before this position that are for it were written."""

    def caught_up(self, position: Position) -> None:
        """Its subscription is over: it has everything up to this position.

        But for a last write, which may follow at once.
        """


class Subscription:
    """One client's interest in one stream.

    cursor: its position in the ring, or in the log while it is replayed; None while it is live.
    feed: a snapshot that its client gets before anything else. paused: its transport has been
    paused since the cursor was last used. seat: its place among the live ones.
    """

    __slots__ = ("client", "cursor", "feed", "on_lag", "paused", "seat")

    def __init__(self, client: FanoutClient, on_lag: OnLag) -> None:
        self.client = client
        self.on_lag = on_lag
        self.cursor: StartsAt = None
        self.feed: Feed | None = None
        self.paused = False
        self.seat = NO_SEAT

    @property
    def selection(self) -> Selection | None:
        """The keys that it gets; None: everything."""
        return None

    @property
    def holds(self) -> bool:
        """Whether frames of the log wait for others that may supersede them."""
        return False

    def part(self, chunk: Chunk, now: float) -> tuple[Sequence[bytes], int]:
        """What it gets now of a chunk, in pieces of whole frames, and how many frames that is."""
        return ((chunk.data,) if chunk.data else ()), chunk.frames

    def release(self, frames: list[bytes], now: float) -> tuple[list[bytes], int | None]:
        """What it gets now: the frames that it holds, then these, which its cursor has found.

        And how many others they have superseded; None: its client need not be told where it is.
        """
        return frames, None
