"""Who is connected, and the only clock of all connections: pings, deadlines, token expiry.

Nothing here is per connection but a place in a list. The roster's time stands still while the
process does (a starved or suspended machine), so that nobody is declared dead for our own silence;
token expiry alone follows the wall clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from energyws.auth.verifier import Principal
from energyws.errors import (
    NO_PONG,
    RESTART,
    TOKEN_EXPIRED,
    TOKEN_EXPIRED_CLOSE,
    TOKEN_EXPIRING,
    Close,
    ErrorCode,
)
from energyws.settings import Auth, Server
from workers.runtime import crash_on_error

TICK_SECONDS: Final = 0.5
# Clients that are sent away come back after up to so long, on top of the spread of the drain.
RECONNECT_JITTER_MS: Final = 1_000
# Those that came together after a restart must not go together.
AGE_JITTER: Final = 0.1


class Closing(Protocol):
    """A connection whose closing handshake is under way."""

    def abort(self) -> None:
        """End it without further ado."""


class Connection(Closing, Protocol):
    """A connection, as the roster sees it. `heard` is set whenever the client sends anything.

    id: no other member's.
    """

    id: int
    principal: Principal
    heard: bool
    writable: bool
    closing: bool

    def ping(self) -> None:
        """Send a ping, and clear `heard`."""

    def say(self, error: ErrorCode, detail: str = "") -> None:
        """Send an `error`, or the `notice` that this code is."""

    def close(self, close: Close) -> None:
        """Begin the closing handshake."""

    def reconnect(self, after_ms: int, close: Close) -> None:
        """Ask it to come back, and close."""


class ConnectionRegistry:
    """Every connection of this worker. `monotonic` and `wall` tell the time in seconds."""

    def __init__(
        self,
        server: Server,
        auth: Auth,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._auth = auth
        self._members: dict[Connection, None] = {}
        # Since when: of an unanswered ping, and of the closing handshake.
        self._pinged: dict[Connection, float] = {}
        self._closing: dict[Closing, float] = {}
        # The expiry, its member's id as a tie-breaker, and whose it is: those that are to be
        # announced, and those that have been. No number here is made for an entry alone.
        self._expiring: list[tuple[float, int, Connection]] = []
        self._announced: list[tuple[float, int, Connection]] = []
        # The same, by the roster's own time, of those that are to be sent on at an age.
        self._aging: list[tuple[float, int, Connection]] = []
        self._round: list[Connection] = []
        self._round_size = 0
        self._next_round = 0.0
        self._time = 0.0
        self._monotonic = monotonic
        self._wall = wall
        self._last = monotonic()
        self._timer = self._loop.call_later(TICK_SECONDS, self._on_tick)
        self._empty: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._members)

    def join(self, member: Connection) -> None:
        """A client was let in."""
        self._members[member] = None
        self.expires(member)
        if (age := self._server.max_connection_age_seconds) is not None:
            at = self._time + age * random.uniform(1 - AGE_JITTER, 1 + AGE_JITTER)
            heapq.heappush(self._aging, (at, member.id, member))

    def expires(self, member: Connection) -> None:
        """A member's token expires at another time than before."""
        heapq.heappush(self._expiring, (member.principal.expires_at, member.id, member))

    def closing(self, connection: Closing) -> None:
        """Abort it unless it is gone within close_timeout_seconds."""
        self._closing[connection] = self._time

    def leave(self, connection: Closing) -> None:
        """A connection is gone."""
        self._members.pop(connection, None)  # type: ignore[call-overload]
        self._pinged.pop(connection, None)  # type: ignore[call-overload]
        self._closing.pop(connection, None)
        if len(self._expiring) > 2 * len(self._members) + 1_000:
            # Long-lived tokens of short-lived connections must not pile up. Those that have been
            # announced end soon.
            self._expiring = self._present(self._expiring)
        if len(self._aging) > 2 * len(self._members) + 1_000:
            self._aging = self._present(self._aging)
        if self._empty is not None and not self._members:
            self._empty.set()

    def adopt(self, server: Server, auth: Auth) -> None:
        """Use these from now on; who is here keeps the age that was meant for it."""
        self._server = server
        self._auth = auth
        # The pause that has begun may be a long one of before.
        self._next_round = min(self._next_round, self._time + server.ping_interval_seconds)

    async def drain(self, seconds: float) -> None:
        """Send everybody away, spread evenly over `seconds`; return when all are gone.

        Who comes after it has begun is sent away at its end.
        """
        await self.shed(len(self._members), seconds)
        while self._members:
            self._empty = asyncio.Event()
            for member in list(self._members):
                if not member.closing:
                    _send_on(member)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), TICK_SECONDS)

    async def shed(self, count: int, seconds: float) -> None:
        """Send so many away, whoever they are, spread evenly over `seconds`."""
        members = random.sample(list(self._members), min(count, len(self._members)))
        start = self._loop.time()
        for number, member in enumerate(members):
            due = start + seconds * number / len(members)
            if (wait := due - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            _send_on(member)

    def close(self) -> None:
        """Stop the clock."""
        self._timer.cancel()

    @crash_on_error
    def _on_tick(self) -> None:
        now = self._monotonic()
        # Not more than two ticks at once: what is beyond was our own absence.
        self._time += min(now - self._last, 2 * TICK_SECONDS)
        self._last = now
        self._timer = self._loop.call_later(TICK_SECONDS, self._on_tick)
        self._abort_overdue()
        self._expire(self._wall())
        self._send_on_the_old()
        self._drop_silent()
        self._ping_some()

    def _abort_overdue(self) -> None:
        begun = self._time - self._server.close_timeout_seconds
        for connection, since in list(self._closing.items()):
            if since <= begun:
                del self._closing[connection]
                connection.abort()

    def _expire(self, wall: float) -> None:
        for entry in self._due(self._expiring, wall + self._auth.expiry_notice_seconds):
            at, _, member = entry
            if at > wall:
                member.say(TOKEN_EXPIRING)
                heapq.heappush(self._announced, entry)
            else:
                member.say(TOKEN_EXPIRED)
                member.close(TOKEN_EXPIRED_CLOSE)
        for _, _, member in self._due(self._announced, wall):
            member.say(TOKEN_EXPIRED)
            member.close(TOKEN_EXPIRED_CLOSE)

    def _due(
        self, entries: list[tuple[float, int, Connection]], until: float
    ) -> Iterator[tuple[float, int, Connection]]:
        """Take out what is due, and leave out what does not count any more."""
        while entries and entries[0][0] <= until:
            entry = heapq.heappop(entries)
            at, _, member = entry
            # A renewed token has an entry of its own; a member that left has none that counts.
            if member in self._members and member.principal.expires_at == at:
                yield entry

    def _present(
        self, entries: list[tuple[float, int, Connection]]
    ) -> list[tuple[float, int, Connection]]:
        left = [entry for entry in entries if entry[2] in self._members]
        heapq.heapify(left)
        return left

    def _send_on_the_old(self) -> None:
        while self._aging and self._aging[0][0] <= self._time:
            _, _, member = heapq.heappop(self._aging)
            if member in self._members and not member.closing:
                _send_on(member)

    def _drop_silent(self) -> None:
        pinged = self._time - self._server.pong_timeout_seconds
        for member, since in list(self._pinged.items()):
            if member.heard or not member.writable:
                # While it is paused we do not read it, so it cannot answer; the kernel's
                # TCP_USER_TIMEOUT ends it if it takes nothing more.
                del self._pinged[member]
            elif since <= pinged:
                del self._pinged[member]
                member.close(NO_PONG)

    def _ping_some(self) -> None:
        if not self._round:
            if self._time < self._next_round:
                return
            interval = self._server.ping_interval_seconds
            self._next_round = self._time + interval
            self._round = list(self._members)
            self._round_size = math.ceil(len(self._round) * TICK_SECONDS / interval)
        for member in self._round[-self._round_size :]:
            if member in self._members and member.writable:
                member.ping()
                # One that has not answered an earlier ping has no more time for that.
                self._pinged.setdefault(member, self._time)
        del self._round[-self._round_size :]


def _send_on(member: Connection) -> None:
    member.reconnect(random.randrange(RECONNECT_JITTER_MS), RESTART)
