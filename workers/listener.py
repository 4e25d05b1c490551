"""Accepting connections on the socket that the supervisor holds for this worker's slot.

An accept loop of our own, because aiofastnet's (1.2) spins at EMFILE, because a connection's peer
is known here only, and because stopping must not close the socket: its queue belongs to whoever
serves the slot next.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import aiofastnet
from aiofastnet.selector_transport import (  # type: ignore[import-not-found]
    SelectorSocketTransport,
)
from picows import WSListener, WSUpgradeRequest, WSUpgradeResponseWithListener

from energyws.flood import Limited
from energyws.log import Log
from energyws.settings import Server
from workers.lobby import Lobby
from workers.wire import Wire

# With fewer a crowd overflows the kernel's queue (docs/architecture.md, measured by bench.storm).
ACCEPTS_PER_TURN: Final = 64
PAUSE_SECONDS: Final = 0.2
# Of no consequence while OpenSSL has the socket itself (tls_context).
# One TLS record and what is around it. aiofastnet's sixteen, each way, cost a worker 257 KiB more
# for every client that does not read.
TLS_RECORD_BYTES: Final = 16 * 1024 + 64

_FULL: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_log = Log("listener")


class _Connection(socket.socket):
    """A socket that does not tell its addresses: aiofastnet would keep them, some 320 bytes."""

    __slots__ = ()

    def getsockname(self) -> None:
        """Nobody asks."""

    def getpeername(self) -> None:
        """`accept` has told it."""


Answer = Callable[[WSUpgradeRequest, str], WSListener | WSUpgradeResponseWithListener]


class Listener:
    """Serves one listening socket. `answer` decides about each request and its peer's address."""

    def __init__(
        self,
        listening: socket.socket,
        settings: Server,
        tls: ssl.SSLContext | None,
        answer: Answer,
        max_descriptor: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._settings = settings
        self._tls = tls
        self._answer = answer
        self._max_descriptor = max_descriptor
        self._paused: asyncio.TimerHandle | None = None
        self._serving = False
        self._limited = Limited(_log, 10.0)
        self._lobby = Lobby(self._open, settings.handshake_timeout_seconds)
        # asyncio holds tasks weakly.
        self._openings: set[asyncio.Task[Any]] = set()
        # Who was accepted and has not sent a request yet, with the time by which it must have.
        self._expected: dict[int, float] = {}
        self._numbers = itertools.count()
        self._none_expected = asyncio.Event()

    def start(self) -> None:
        """Begin to accept."""
        self._listening.setblocking(False)
        self._serving = True
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more; what waits in the kernel's queue stays there."""
        if self._serving:
            self._serving = False
            self._loop.remove_reader(self._listening.fileno())
            if self._paused is not None:
                self._paused.cancel()

    def close(self) -> None:
        """Accept no more, and close whoever has not spoken yet."""
        self.stop()
        self._lobby.close()

    def adopt(self, settings: Server, tls: ssl.SSLContext | None) -> None:
        """Use these for connections that are accepted from now on."""
        self._settings = settings
        self._tls = tls

    @property
    def waiting(self) -> int:
        """Connections that were accepted and have said nothing yet."""
        return len(self._lobby)

    async def settled(self) -> None:
        """Wait until whoever was accepted has sent its request, or missed its time."""
        await self._lobby.emptied()
        left = max(self._expected.values(), default=0.0) - self._loop.time()
        if left > 0:
            self._none_expected.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._none_expected.wait(), left)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                # It was reset before we came to it.
                continue
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._pause(error.strerror)
                return
            if connection.fileno() > self._max_descriptor:
                connection.close()
                self._pause("the limit of open files is near")
                return
            self._lobby.wait(connection, address[0])

    def _pause(self, reason: str | None) -> None:
        """Leave the rest in the queue for a moment: another worker's or a later us may serve it."""
        self._limited.error("accepting is paused", reason=reason)
        self._loop.remove_reader(self._listening.fileno())
        self._paused = self._loop.call_later(PAUSE_SECONDS, self.start)

    def _open(self, accepted: socket.socket, peer: str) -> None:
        kind = accepted.family, accepted.type, accepted.proto
        connection = _Connection(*kind, fileno=accepted.detach())
        connection.setblocking(False)
        milliseconds = int(self._settings.tcp_user_timeout_seconds * 1000)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        number = self._expect()
        if self._tls is None:
            # All that connect_accepted_socket does then, but for a task and a future that wait
            # for what happens in the next turn anyway. The loop's selector holds it.
            SelectorSocketTransport(
                self._loop, connection, self._protocol(peer, number, connection)
            )
            return
        opening = self._loop.create_task(
            aiofastnet.connect_accepted_socket(
                self._loop,
                lambda: self._protocol(peer, number, connection),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_timeout,
                ssl_shutdown_timeout=self._settings.close_timeout_seconds,
                ssl_incoming_bio_size=TLS_RECORD_BYTES,
                ssl_outgoing_bio_size=TLS_RECORD_BYTES,
            )
        )
        self._openings.add(opening)
        opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[Any]) -> None:
        self._openings.discard(opening)
        if not opening.cancelled() and (error := opening.exception()) is not None:
            # A TLS handshake that failed or took too long: the client's business.
            self._limited.debug("no connection came about", reason=type(error).__name__)

    @property
    def _handshake_timeout(self) -> float:
        return self._settings.handshake_timeout_seconds

    def _expect(self) -> int:
        now = self._loop.time()
        # Those that went away without a word; the oldest come first.
        while self._expected and self._expected[first := next(iter(self._expected))] <= now:
            del self._expected[first]
        number = next(self._numbers)
        # The TLS handshake and the request have that long each.
        self._expected[number] = now + (2 if self._tls else 1) * self._handshake_timeout
        return number

    def _asked(
        self, request: WSUpgradeRequest, peer: str, number: int
    ) -> WSListener | WSUpgradeResponseWithListener:
        self._expected.pop(number, None)
        if not self._expected:
            self._none_expected.set()
        return self._answer(request, peer)

    def _protocol(self, peer: str, number: int, connection: socket.socket) -> Wire:
        return Wire(
            lambda request: self._asked(request, peer, number),
            self._settings,
            connection,
        )
