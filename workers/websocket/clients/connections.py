"""All connections of a worker, and their only clock: pings, deadlines, token expiry.

A connection costs an entry in a few lists, and no timer. The registry's time stands still while the
process does (a starved or suspended machine), so that no client is declared dead for our own
silence; token expiry alone follows the wall clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
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
from workers.websocket.clients.rounds import Rounds
from workers.websocket.clients.stalls import Stalls

TICK_SECONDS: Final = 0.5
# Clients that are sent away are asked to wait for up to this long, on top of the drain's spread.
RECONNECT_JITTER_MS: Final = 1_000
# Clients that connected together after a restart must not leave together.
AGE_JITTER: Final = 0.1
# How often a connection is looked at within tcp_user_timeout_seconds. With more looks, fewer
# clients get more time than that; each costs a system call.
LOOKS: Final = 6


class Closing(Protocol):
    """A connection in its closing handshake."""

    def abort(self) -> None:
        """End it without waiting for anything."""


class Connection(Closing, Protocol):
    """A connection, as the registry sees it. `heard` is set whenever the client sends anything.

    id: unique.
    """

    id: int
    principal: Principal
    heard: bool
    writable: bool

    @property
    def closing(self) -> bool:
        """Whether its closing handshake has begun, or it is gone."""

    def ping(self) -> None:
        """Send a ping, and clear `heard`."""

    def send_error(self, error: ErrorCode, detail: str = "") -> None:
        """Send an `error`, or a `notice` where the code is one."""

    def close(self, close: Close) -> None:
        """Begin the closing handshake."""

    def reconnect(self, after_ms: int, close: Close) -> None:
        """Ask the client to reconnect after this delay, and close."""


class Acknowledging(Protocol):
    """A connection's socket."""

    def acknowledged(self) -> int | None:
        """How many bytes the client has acknowledged since it connected; None: all."""

    def unacknowledged(self) -> int:
        """The bytes that the kernel holds for the client."""

    def reset_on_close(self) -> None:
        """Once it is closed, have the kernel send a reset and nothing else."""

    def leave_to_kernel(self, seconds: float) -> None:
        """It is closed next: have the kernel end it if nothing is acknowledged for so long."""


# A time, and the id of a connection, which may be gone by then: an entry must not keep it alive.
_Deadline = tuple[float, int]
# Entries that may be void, besides one of each connection and as many again.
_SPARE_ENTRIES: Final = 1_000


class ConnectionRegistry:
    """`monotonic` and `wall` return the time in seconds."""

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
        self._connections: dict[Connection, Acknowledging] = {}
        # The times of unanswered pings, and of the beginnings of closing handshakes.
        self._pinged: dict[Connection, float] = {}
        self._closing: dict[Closing, float] = {}
        self._by_id: dict[int, Connection] = {}
        # Heaps of the tokens' expiries: those to be announced, and those that have been. An entry
        # costs one tuple; its numbers exist anyway.
        self._expiring: list[_Deadline] = []
        self._announced: list[_Deadline] = []
        # The same, by the registry's own time, of the connections that have a maximum age.
        self._aging: list[_Deadline] = []
        self._pings: Rounds[Connection] = Rounds(TICK_SECONDS)
        self._looks: Rounds[Connection] = Rounds(TICK_SECONDS)
        self._stalls: Stalls[Connection] = Stalls()
        self._time = 0.0
        self._monotonic = monotonic
        self._wall = wall
        self._last = monotonic()
        self._timer = self._loop.call_later(TICK_SECONDS, self._on_tick)
        self._empty: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        """Those of this moment; they may leave meanwhile."""
        return iter(list(self._connections))

    def join(self, connection: Connection, socket: Acknowledging) -> None:
        self._connections[connection] = socket
        self._by_id[connection.id] = connection
        self.expires(connection)
        if (age := self._server.max_connection_age_seconds) is not None:
            at = self._time + age * random.uniform(1 - AGE_JITTER, 1 + AGE_JITTER)
            heapq.heappush(self._aging, (at, connection.id))

    def expires(self, connection: Connection) -> None:
        """A connection has a token with another expiry."""
        heapq.heappush(self._expiring, (connection.principal.expires_at, connection.id))
        if self._crowded(self._expiring):
            # Long-lived tokens of short-lived connections, and tokens that were replaced, must not
            # pile up. Announced ones expire soon.
            self._expiring = sorted({entry for entry in self._expiring if self._holds(*entry)})

    def closing(self, connection: Closing) -> None:
        """Abort it unless it is gone within close_timeout_seconds."""
        self._closing[connection] = self._time

    def lost(self, connection: Connection) -> None:
        """It is gone, and its socket is closed next."""
        if (socket := self._connections.get(connection)) is not None:
            socket.leave_to_kernel(self._server.tcp_user_timeout_seconds)
        self.leave(connection)

    def leave(self, connection: Closing) -> None:
        if self._connections.pop(connection, None) is not None:  # type: ignore[call-overload]
            del self._by_id[connection.id]  # type: ignore[attr-defined]
        self._pinged.pop(connection, None)  # type: ignore[call-overload]
        self._stalls.forget(connection)  # type: ignore[arg-type]
        self._closing.pop(connection, None)
        if self._crowded(self._aging):
            self._aging = sorted(entry for entry in self._aging if entry[1] in self._by_id)
        if self._empty is not None and not self._connections:
            self._empty.set()

    def __contains__(self, connection: object) -> bool:
        return connection in self._connections

    def holding(self) -> list[tuple[int, Connection]]:
        """What the kernel holds for each client that is not closing, in bytes."""
        return [
            (socket.unacknowledged(), connection)
            for connection, socket in self._connections.items()
            if not connection.closing
        ]

    def give_up(self, connection: Connection) -> None:
        """What the kernel holds for a client is dropped when its connection ends."""
        self._connections[connection].reset_on_close()

    def use_settings(self, server: Server, auth: Auth) -> None:
        """Use these from now on; existing connections keep their maximum age."""
        self._server = server
        self._auth = auth

    async def drain(self, seconds: float) -> None:
        """Send all clients away, spread evenly over `seconds`; returns when all are gone.

        Clients that connect meanwhile are sent away at the end.
        """
        await self.shed(len(self._connections), seconds)
        while self._connections:
            self._empty = asyncio.Event()
            for connection in list(self._connections):
                if not connection.closing:
                    _send_away(connection)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), TICK_SECONDS)

    async def shed(self, count: int, seconds: float) -> None:
        """Send this many clients away, chosen at random, spread evenly over `seconds`."""
        connections = random.sample(list(self._connections), min(count, len(self._connections)))
        start = self._loop.time()
        for number, connection in enumerate(connections):
            due = start + seconds * number / len(connections)
            if (wait := due - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            _send_away(connection)

    def close(self) -> None:
        self._timer.cancel()

    @crash_on_error
    def _on_tick(self) -> None:
        now = self._monotonic()
        # At most two ticks at once: the rest was our own absence.
        self._time += min(now - self._last, 2 * TICK_SECONDS)
        self._last = now
        self._timer = self._loop.call_later(TICK_SECONDS, self._on_tick)
        self._abort_overdue()
        self._expire(self._wall())
        self._send_away_the_old()
        self._drop_silent()
        self._ping_some()
        self._abort_stalled()

    def _abort_overdue(self) -> None:
        begun = self._time - self._server.close_timeout_seconds
        for connection, since in list(self._closing.items()):
            if since <= begun:
                del self._closing[connection]
                connection.abort()

    def _expire(self, wall: float) -> None:
        for entry in self._due(self._expiring, wall + self._auth.expiry_notice_seconds):
            at, number = entry
            connection = self._by_id[number]
            if at > wall:
                connection.send_error(TOKEN_EXPIRING)
                heapq.heappush(self._announced, entry)
            else:
                connection.send_error(TOKEN_EXPIRED)
                connection.close(TOKEN_EXPIRED_CLOSE)
        for _, number in self._due(self._announced, wall):
            connection = self._by_id[number]
            connection.send_error(TOKEN_EXPIRED)
            connection.close(TOKEN_EXPIRED_CLOSE)

    def _due(self, entries: list[_Deadline], until: float) -> Iterator[_Deadline]:
        """Take out what is due; void entries are dropped."""
        last = None
        while entries and entries[0][0] <= until:
            entry = heapq.heappop(entries)
            if entry == last:
                # The same token, sent again.
                continue
            last = entry
            if self._holds(*entry):
                yield entry

    def _holds(self, at: float, number: int) -> bool:
        """Whether an expiry is not void: by another token, or since the connection is gone."""
        connection = self._by_id.get(number)
        return connection is not None and connection.principal.expires_at == at

    def _crowded(self, entries: list[_Deadline]) -> bool:
        return len(entries) > 2 * len(self._connections) + _SPARE_ENTRIES

    def _send_away_the_old(self) -> None:
        while self._aging and self._aging[0][0] <= self._time:
            _, number = heapq.heappop(self._aging)
            connection = self._by_id.get(number)
            if connection is not None and not connection.closing:
                _send_away(connection)

    def _drop_silent(self) -> None:
        pinged = self._time - self._server.pong_timeout_seconds
        for connection, since in list(self._pinged.items()):
            if connection.heard or not connection.writable:
                # While it is paused we do not read from it, so we cannot see its pong; if it reads
                # no more, it stalls.
                del self._pinged[connection]
            elif since <= pinged:
                del self._pinged[connection]
                connection.close(NO_PONG)

    def _ping_some(self) -> None:
        interval = self._server.ping_interval_seconds
        for connection in self._pings.turns(self._connections, self._time, interval):
            if connection in self._connections and connection.writable:
                connection.ping()
                # This ping gives no more time to one that has not answered the last.
                self._pinged.setdefault(connection, self._time)

    def _abort_stalled(self) -> None:
        most, now = self._server.tcp_user_timeout_seconds, self._time
        for connection in self._looks.turns(self._connections, now, most / LOOKS):
            socket = self._connections.get(connection)
            if socket is not None and self._stalls.look(
                connection, socket.acknowledged(), now, most
            ):
                # What it has not read would stay in the kernel for long.
                socket.reset_on_close()
                connection.abort()


def _send_away(connection: Connection) -> None:
    connection.reconnect(random.randrange(RECONNECT_JITTER_MS), RESTART)
