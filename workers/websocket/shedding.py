"""Makes room before the kernel kills a process of the service (see
`energyws.process.memory_pressure`).

Nothing is lost: a client that is closed resumes from its position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast

from energyws.errors import SLOW, Close
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import Board, Field, Row
from energyws.process.cgroup import MemoryGroups
from energyws.process.memory_pressure import Level, MemoryPressure, to_close
from energyws.settings import MIB
from workers.websocket.clients.connections import Connection
from workers.websocket.memory import trim

# Ticks between two calls of malloc_trim(3), which takes some milliseconds.
TRIM_TICKS: Final = 10

_log = Log("worker")


class Clients(Protocol):
    """What shedding needs of the connection registry."""

    def holding(self) -> Iterable[tuple[int, Connection]]:
        """What the kernel holds for each client, in bytes."""

    def give_up(self, connection: Connection) -> None:
        """What the kernel holds for a client is dropped when its connection ends."""

    def __contains__(self, connection: object) -> bool: ...


class Holder(Protocol):
    """Who makes us hold memory."""

    def close(self, close: Close) -> None:
        """Have it end."""


class Shedding:
    """row: of this worker, in the board. unread: gives the complete answers over HTTP that wait for
    their readers, which are no clients any more, and the bytes that each holds.
    """

    def __init__(
        self,
        clients: Clients,
        unread: Callable[[], Iterable[tuple[int, Holder]]],
        board: Board,
        row: Row,
        groups: MemoryGroups,
    ) -> None:
        self._clients = clients
        self._unread = unread
        self._board = board
        self._row = row
        self._groups = groups
        self._pressure = MemoryPressure()
        self._limited = RateLimitedLog(_log, 10.0)
        # Those that were closed, and what each held.
        self._closed: dict[Holder, int] = {}
        self._ticks = 0

    @property
    def refuses(self) -> bool:
        """Whether new clients are to come back later."""
        return self._pressure.level is not Level.NONE

    def tick(self, percent: float | None) -> None:
        """To be called about once a second. percent: server.shed_at_memory_percent."""
        use = None if percent is None else self._groups.fullest()
        gone = [each for each in self._closed if each not in self._clients]
        for each in gone:
            del self._closed[each]
        self._row[Field.MEMORY_FREEING] = sum(self._closed.values())
        before = self._pressure.level
        freeing = self._board.total(Field.MEMORY_FREEING)
        level, wanted = self._pressure.look(use, percent, freeing)
        self._row[Field.MEMORY_PRESSURE] = level
        if level is Level.NONE:
            self._ticks = 0
            if before is not Level.NONE:
                _log.info("memory suffices again")
            return
        assert use is not None
        self._limited.warning(
            "short of memory: refusing new clients",
            used_mib=use.used // MIB,
            limit_mib=use.limit // MIB,
        )
        if gone or self._ticks % TRIM_TICKS == 0:
            trim()
        self._ticks += 1
        if wanted:
            self._close(wanted)

    def _close(self, wanted: int) -> None:
        held: list[tuple[int, Holder]] = [*self._clients.holding(), *self._unread()]
        chosen = to_close(held, wanted)
        for size, each in chosen:
            self._closed[each] = size
            if each in self._clients:
                self._clients.give_up(cast(Connection, each))
            each.close(SLOW)
        if chosen:
            self._row[Field.MEMORY_FREEING] = sum(self._closed.values())
            self._limited.warning(
                "short of memory: closing clients that do not read",
                count=len(chosen),
                held_kib=sum(size for size, _ in chosen) // 1024,
            )
