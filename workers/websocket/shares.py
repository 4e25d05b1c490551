"""What each address, subject and token takes of the service, and the limits on it.

A client that was admitted is counted at once, so that no other worker admits too many meanwhile. If
its connection ends before it begins, nothing tells us: it is given back a moment later.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Final

from energyws.process.board import Field, Row
from energyws.process.counters import LIMITED
from energyws.process.usage import NO_MARK, NOT_COUNTED, Kind, Usage, pack, subject_of, token_of
from energyws.protocol.http.client_address import client_of
from energyws.settings import Limits

# A crowd mostly shares an address, a proxy's or a router's; to keep every subject of a crowd costs
# more memory than to hash it again costs time.
_MARKS_KNOWN: Final = 256
# As plain numbers, which are faster.
_PENDING: Final = Kind.PENDING.value
_PENDING_COLUMN: Final = Field.PENDING.value
_CONNECTIONS_COLUMN: Final = Field.CONNECTIONS.value


class Shares:
    """limits: a reload replaces them. row: of this worker, where its clients are counted.

    A method that returns text returns the limit that the client has met, which is then counted;
    None: it may go on.
    """

    def __init__(self, usage: Usage, row: Row, limits: Limits) -> None:
        self.limits = limits
        self.usage = usage
        self._row = row
        # The mark of a subject.
        self.mark = lru_cache(_MARKS_KNOWN)(usage.mark)
        self._address = lru_cache(_MARKS_KNOWN)(lambda peer: usage.mark(client_of(peer)))
        # Clients that were admitted and have not begun, since the last tick and the one before.
        self._held: dict[object, int] = {}
        self._held_longer: dict[object, int] = {}

    def marks(self, peer: str, subject: str, token: str) -> int:
        """The marks of a connection, packed.

        Only what is limited has one: to hash and count everything would cost some percent
        of a handshake. A token is known by what its issuer has signed: a signature has several
        spellings.
        """
        limits, mark = self.limits, self.usage.mark
        if (
            limits.connections_per_address
            is limits.connections_per_subject
            is limits.connections_per_token
            is None
        ):
            return NOT_COUNTED
        return pack(
            NO_MARK if limits.connections_per_address is None else self._address(peer),
            NO_MARK if limits.connections_per_subject is None else self.mark(subject),
            NO_MARK if limits.connections_per_token is None else mark(token.rpartition(".")[0]),
        )

    def waits(self, peer: str) -> int:
        """The mark by which a connection is counted until it is a client."""
        return NO_MARK if self.limits.pending_per_address is None else self._address(peer)

    def may_connect(self, peer: str) -> str | None:
        """Whether one more client may connect from an address."""
        limit = self.limits.connections_per_address
        if limit is None:
            return None
        return self._level("connections_per_address", Kind.ADDRESS, self._address(peer), limit)

    def may_have(self, marks: int) -> str | None:
        """Whether one more client with this subject and this token may connect."""
        limits = self.limits
        if limits.connections_per_subject is None and limits.connections_per_token is None:
            return None
        return self._level(
            "connections_per_subject",
            Kind.SUBJECT,
            subject_of(marks),
            limits.connections_per_subject,
        ) or self._level(
            "connections_per_token", Kind.TOKEN, token_of(marks), limits.connections_per_token
        )

    @property
    def limits_arrivals(self) -> bool:
        """Whether `may_wait` or `may_come` can return a limit."""
        limits = self.limits
        return not (
            limits.pending_per_address is None
            and limits.new_connections_per_address_per_second is None
        )

    def may_wait(self, peer: str) -> str | None:
        """Whether one more connection from an address may wait to become a client."""
        limit = self.limits.pending_per_address
        return self._level("pending_per_address", Kind.PENDING, self.waits(peer), limit)

    def may_come(self, peer: str) -> str | None:
        """Count a new connection from an address."""
        name = "new_connections_per_address_per_second"
        limit = self.limits.new_connections_per_address_per_second
        if limit is None:
            return None
        return self._amount(name, Kind.ARRIVALS, self._address(peer), limit)

    def may_send(self, subject: str) -> str | None:
        """Count a message of a subject."""
        name = "messages_per_subject_per_second"
        limit = self.limits.messages_per_subject_per_second
        if limit is None:
            return None
        return self._amount(name, Kind.MESSAGES, self.mark(subject), limit)

    def hold(self, client: object, marks: int) -> None:
        """Count a client that was admitted."""
        self._held[client] = marks
        self._add(marks, 1)

    def begin(self, client: object, marks: int) -> None:
        """It has begun, and will end."""
        held = self._held.pop(client, None)
        if held is None and self._held_longer.pop(client, None) is None:
            self._add(marks, 1)

    def end(self, marks: int) -> None:
        self._add(marks, -1)

    def tick(self) -> None:
        """To be called about once a second: clients that have not begun by now will not."""
        for marks in self._held_longer.values():
            self._add(marks, -1)
        self._held_longer, self._held = self._held, {}

    def pending(self, address: int, amount: int) -> None:
        """Count connections that are no clients yet. address: as `waits` has it."""
        self._row.add(_PENDING_COLUMN, amount)
        if address != NO_MARK:
            self.usage.add(_PENDING, address, amount)

    def met(self, limit: str) -> str:
        """Count that a client has met a limit."""
        LIMITED.count(self._row, limit)
        return limit

    def _level(self, name: str, kind: Kind, mark: int, limit: int | None) -> str | None:
        if limit is None or self.usage.level(kind, mark) < limit:
            return None
        return self.met(name)

    def _amount(self, name: str, kind: Kind, mark: int, limit: int) -> str | None:
        now = time.monotonic()
        self.usage.spend(kind, mark, 1, now)
        return None if self.usage.spent(kind, mark, now) <= limit else self.met(name)

    def _add(self, marks: int, amount: int) -> None:
        self._row.add(_CONNECTIONS_COLUMN, amount)
        self.usage.add_connection(marks, amount)
