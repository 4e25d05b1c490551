"""Clients with a few keys each: what they receive goes to a journal, since only the log tells more.

Each connection of a client uses its next token, and so may have other keys than the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from bench.faults.clients.journal import Journal
from bench.faults.clients.watchers import STREAM, EventWatcher, WebSocketWatcher
from bench.faults.keys import Seat
from bench.faults.ledger import Ledger
from energyws.client.messages import Message, Reader


class Holder:
    """A seat, its tokens and its journal, for the clients that take the seat one after another."""

    def __init__(self, seat: Seat, tokens: Sequence[str]) -> None:
        self.seat = seat
        self.journal = Journal()
        self._tokens = tokens
        self._turn = -1

    def token(self, position: str | None) -> str:
        """That of the next connection, which goes on from this position."""
        self._turn += 1
        rated = self.seat.max_rate is not None
        self.journal.connect(self.seat.keys(self._turn), position, rated=rated)
        return self._tokens[self._turn % len(self._tokens)]


class KeyedWebSocketWatcher(WebSocketWatcher):
    """origin: the position to resume from."""

    kind = "keyed"

    def __init__(self, url: str, holder: Holder, origin: str | None = None) -> None:
        seat = holder.seat
        options: dict[str, Any] = {} if seat.asks is None else {"keys": {STREAM: seat.asks}}
        if seat.snapshot:
            # It begins with that; when it comes back, it resumes.
            options["snapshot"], origin = True, None
        if seat.max_rate is not None:
            options["max_rate"] = seat.max_rate
        super().__init__(url, lambda: holder.token(self.position), origin, **options)
        self._journal = holder.journal
        reader = _Noting(self._client._reader, holder.journal, self.ledger)
        self._client._reader = cast("Reader", reader)

    def behind(self, targets: Sequence[int], offsets: Sequence[int]) -> bool:
        return _behind(self.ledger, self._journal, targets, offsets)

    async def _receive(self) -> None:
        async for _ in self._client:
            pass


def _behind(
    ledger: Ledger, journal: Journal, targets: Sequence[int], offsets: Sequence[int]
) -> bool:
    # What a snapshot covers does not come any more, nor what is superseded.
    covered = journal.covered
    return any(
        following < target and (covered is None or covered.next_offset(partition) < offset)
        for partition, (following, target, offset) in enumerate(
            zip(ledger.next, targets, offsets, strict=True)
        )
    )


class _Noting:
    """A client's Reader that also writes what it takes to the journal."""

    def __init__(self, reader: Reader, journal: Journal, ledger: Ledger) -> None:
        self._reader = reader
        self._journal = journal
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def take(self, message: dict[str, Any]) -> Sequence[Message]:
        self._journal.message(message, self._ledger)
        return list(self._reader.take(message))


class KeyedEventWatcher(EventWatcher):
    """url: that of the event stream, without a query. origin: the position to resume from."""

    kind = "keyed"

    def __init__(self, url: str, holder: Holder, origin: str | None = None) -> None:
        seat = holder.seat
        self._holder = holder
        # As over WebSocket.
        self._origin = None if seat.snapshot else origin
        more = {} if seat.max_rate is None else {"max_rate": str(seat.max_rate)}
        more |= {"snapshot": "1"} if seat.snapshot else {}
        super().__init__(url, self._token, self._origin, seat.asks or (), more)

    def behind(self, targets: Sequence[int], offsets: Sequence[int]) -> bool:
        return _behind(self.ledger, self._holder.journal, targets, offsets)

    def _token(self) -> str:
        return self._holder.token(self.position or self._origin)

    def _take_position(self, position: str) -> None:
        self._holder.journal.position(position)

    def _take_message(self, message: dict[str, Any]) -> None:
        self._holder.journal.message(message, self.ledger)

    def _corrupt(self, text: str) -> None:
        self._holder.journal.corrupt(text)
