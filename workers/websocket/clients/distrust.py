"""Ends connections whose token counts no more: its key was removed, or the token was revoked.

A removed key is no fault of the client: it is asked for a fresh token first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from energyws.auth.verifier import Principal
from energyws.errors import TOKEN_EXPIRING, UNAUTHORIZED, UNAUTHORIZED_CLOSE
from energyws.logs.events import Log
from workers.runtime import crash_on_error_task
from workers.websocket.auth.tokens import Fault
from workers.websocket.clients.connections import Connection

# A handshake whose token was checked just before a change joins the connections a little later.
SETTLE_SECONDS: Final = 1.0
# Less than a millisecond's work, between which clients are served.
SLICE: Final = 500
# How long a client has for a fresh token.
RENEW_SECONDS: Final = 5.0

_log = Log("worker")


class Distrust:
    """Looks at all connections when asked to.

    fault: gives None for a principal whose token is good. spread: gives the seconds over which
    connections are ended, so that their clients do not all return in the same moment.
    """

    def __init__(
        self,
        connections: Iterable[Connection],
        fault: Callable[[Principal], Fault | None],
        spread: Callable[[], float],
    ) -> None:
        self._connections = connections
        self._fault = fault
        self._spread = spread
        self._ending: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def look(self) -> None:
        """Something has changed: end the connections that it concerns."""
        task = crash_on_error_task(self._run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End no more connections."""
        for task in self._tasks:
            task.cancel()

    async def _run(self) -> None:
        await self._sweep()
        await asyncio.sleep(SETTLE_SECONDS)
        await self._sweep()

    async def _sweep(self) -> None:
        found: dict[Connection, Fault] = {}
        try:
            for number, each in enumerate(self._connections, 1):
                if each not in self._ending and (fault := self._fault_of(each)) is not None:
                    found[each] = fault
                    self._ending.add(each)
                if number % SLICE == 0:
                    await asyncio.sleep(0)
            if found:
                await self._end_all(found)
        finally:
            self._ending.difference_update(found)

    async def _end_all(self, found: Mapping[Connection, Fault]) -> None:
        seconds = self._spread()
        _log.info(
            "ending connections whose token counts no more", count=len(found), seconds=seconds
        )
        renewable = [each for each, fault in found.items() if fault.renewable]
        others = [each for each, fault in found.items() if not fault.renewable]
        await asyncio.gather(
            self._each(others, seconds, self._end),
            self._each(renewable, seconds, self._ask),
            self._each(renewable, seconds, self._end, after=RENEW_SECONDS),
        )

    async def _each(
        self,
        connections: Sequence[Connection],
        seconds: float,
        act: Callable[[Connection], None],
        *,
        after: float = 0.0,
    ) -> None:
        """Act on each connection, evenly over `seconds`."""
        loop = asyncio.get_running_loop()
        start = loop.time() + after
        for number, connection in enumerate(connections):
            if (wait := start + seconds * number / len(connections) - loop.time()) > 0:
                await asyncio.sleep(wait)
            act(connection)

    # The connection may have sent a fresh token, or have left, meanwhile.

    def _ask(self, connection: Connection) -> None:
        if (fault := self._fault_of(connection)) is not None:
            connection.send_error(TOKEN_EXPIRING, fault.detail)

    def _end(self, connection: Connection) -> None:
        # From now on it is found again if its fresh token counts no more, either.
        self._ending.discard(connection)
        if (fault := self._fault_of(connection)) is not None:
            connection.send_error(UNAUTHORIZED, fault.detail)
            connection.close(UNAUTHORIZED_CLOSE)

    def _fault_of(self, connection: Connection) -> Fault | None:
        return None if connection.closing else self._fault(connection.principal)
