"""Accepts connections on the socket that the supervisor holds for this worker's slot.

The accept loop is our own, because aiofastnet's (1.2) spins at EMFILE, because only `accept` tells
a connection's peer, and because stopping must not close the socket: its queue belongs to the worker
that serves the slot next. Without TLS, the requests before the upgrade are read here, too, and need
no transport.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from typing import Final

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import Field, Row
from energyws.protocol.http.request import MAX_HEAD_BYTES
from energyws.settings import Server
from workers.runtime import crash_on_error
from workers.websocket.accept.arrivals import Arrivals, HttpConnection
from workers.websocket.accept.entering import Entering
from workers.websocket.accept.pending import PendingConnections
from workers.websocket.connection.accepted import accept
from workers.websocket.connection.answer import Answer
from workers.websocket.connection.http_exchange import Exchange, Gate, Step, Then
from workers.websocket.connection.transport_exchange import LINGER_SECONDS, TransportExchange

# With fewer, a crowd overflows the kernel's queue (docs/architecture.md, measured by bench.storm).
ACCEPTS_PER_TURN: Final = 64
# Of which so many may be closed unread: that takes the kernel longer than accepting, and those who
# flood the queue are not those who must not find it full.
CLOSES_PER_TURN: Final = 16
PAUSE_SECONDS: Final = 0.2
# Where too many connections wait, and none long enough to be closed: soon one is.
CROWDED_SECONDS: Final = 0.02

_FULL: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_log = Log("listener")

Tls = ssl.SSLContext | None


class Listener:
    """Serves one listening socket. `gate` decides about each request, `arrivals` about the rest."""

    def __init__(
        self,
        listening: socket.socket,
        settings: Server,
        tls: Tls,
        gate: Gate,
        max_descriptor: int,
        row: Row,
        arrivals: Arrivals,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._family = int(listening.family)
        self._tls = tls
        self._gate = gate
        self._arrivals = arrivals
        self._max_descriptor = max_descriptor
        self._row = row
        self._paused: asyncio.TimerHandle | None = None
        self._serving = False
        self._limited = RateLimitedLog(_log, 10.0)
        self._pending: PendingConnections[HttpConnection] = PendingConnections(
            self._serve, settings.handshake_timeout_seconds, dropped=self._over
        )
        # Those that had their last answer (see LINGER_SECONDS).
        self._lingering: PendingConnections[HttpConnection] = PendingConnections(
            self._discard, LINGER_SECONDS, dropped=self._over
        )
        # What is read is copied at once, or dropped, so one buffer is enough for all.
        self._buffer = memoryview(bytearray(MAX_HEAD_BYTES))
        self._most_waiting = 0
        self._entering = Entering(settings, arrivals)

    @crash_on_error
    def start(self) -> None:
        self._listening.setblocking(False)
        self._serving = True
        self._paused = None
        if self._is_full():
            self._run_out("the limit of open files is near")
        else:
            self._row[Field.FULL_SINCE_MS] = 0
            self._loop.add_reader(self._listening.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more; what waits in the kernel's queue stays there."""
        if self._serving:
            self._serving = False
            self._loop.remove_reader(self._listening.fileno())
            if self._paused is not None:
                self._paused.cancel()
        for pending in self._pending.all:
            if pending.exchange.idle:
                self._pending.drop(pending)
        self._entering.close_idle()

    def close(self) -> None:
        """Close every connection that is not upgraded, and our descriptor of the socket."""
        self.stop()
        self._listening.close()
        self._pending.close()
        self._lingering.close()
        self._entering.close()

    def use_settings(self, settings: Server, tls: Tls) -> None:
        """Use these from now on, handshake_timeout_seconds also for pending connections."""
        self._tls = tls
        self._entering.settings = self._arrivals.settings = settings
        self._pending.timeout = settings.handshake_timeout_seconds

    @property
    def waiting(self) -> int:
        """The number of accepted connections that are not, or will never be, upgraded."""
        return len(self._pending) + len(self._lingering) + len(self._entering)

    def unread(self) -> list[tuple[int, TransportExchange]]:
        """The connections whose answers wait for their readers, and the bytes of these."""
        return self._entering.unread

    def most_waiting(self) -> int:
        """The highest number of them since the last call."""
        most, self._most_waiting = max(self._most_waiting, self.waiting), self.waiting
        return most

    async def settled(self) -> None:
        """Wait until every accepted connection has sent its request or run into its timeout."""
        await self._pending.emptied()
        await self._entering.emptied()

    async def flushed(self, seconds: float) -> None:
        """Wait until the clients have been sent their answers, but no longer than this."""
        await self._entering.flushed(seconds)

    def _accept(self) -> None:
        self._most_waiting = max(self._most_waiting, self.waiting)
        room = self._room()
        if room <= 0 and (room := self._make_room()) <= 0:
            self._pause(CROWDED_SECONDS)
            return
        closed = 0
        for _ in range(min(room, ACCEPTS_PER_TURN)):
            try:
                connection, peer = accept(self._listening, self._family)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                # It was reset in the queue.
                continue
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._run_out(error.strerror)
                return
            pending = HttpConnection(connection, Exchange(self._gate, peer), self._tls)
            if not self._arrivals.admit(pending):
                connection.close()
                closed += 1
                if closed == CLOSES_PER_TURN:
                    return
                continue
            self._pending.add(pending)
            # The kernel gives the lowest free descriptor, so there is none below this one.
            if connection.fileno() >= self._max_descriptor:
                self._run_out("the limit of open files is near")
                return

    def _room(self) -> int:
        """How many more connections may wait; half of the descriptors are kept for clients."""
        waiting = self._arrivals.waiting
        if waiting < ACCEPTS_PER_TURN < self._max_descriptor // 4:
            # The least for each worker: those that wait may be others'.
            return ACCEPTS_PER_TURN
        return min(self._arrivals.room(), self._max_descriptor // 2 - waiting)

    def _is_full(self) -> bool:
        """Whether a connection would have too high a descriptor."""
        try:
            lowest = os.dup(self._listening.fileno())
        except OSError:
            return True
        os.close(lowest)
        return lowest > self._max_descriptor

    def _run_out(self, reason: str | None) -> None:
        """Leave the other connections in the queue until a descriptor is free."""
        if not self._row[Field.FULL_SINCE_MS]:
            self._row[Field.FULL_SINCE_MS] = int(time.time() * 1000)
        self._limited.error("accepting is paused", reason=reason)
        self._pause(PAUSE_SECONDS)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening.fileno())
        self._paused = self._loop.call_later(seconds, self.start)

    def _make_room(self) -> int:
        """Close connections that wait for long; returns how many others may come."""
        waiting = [*self._pending.all, *self._lingering.all, *self._entering.waiting]
        chosen = self._arrivals.to_shed(waiting)
        for each in chosen:
            if isinstance(each, HttpConnection):
                held = self._lingering if each.lingers else self._pending
                held.drop(each)
            else:
                self._entering.drop(each)
        return max(len(chosen), ACCEPTS_PER_TURN - self._arrivals.waiting)

    def _over(self, pending: HttpConnection) -> None:
        self._arrivals.over(pending.address)

    def _serve(self, pending: HttpConnection) -> None:
        if pending.head is not None:
            self._read_head(pending)
            return
        if pending.tls is not None:
            self._pending.release(pending)
            self._entering.start_tls(pending)
            return
        size = self._read(pending)
        if size:
            self._follow(pending, pending.exchange.take(bytes(self._buffer[:size])))
        elif size == 0:
            self._pending.drop(pending)

    def _read_head(self, pending: HttpConnection) -> None:
        try:
            good = self._arrivals.read_head(pending)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            good = False
        if not good:
            self._pending.drop(pending)

    def _read(self, pending: HttpConnection) -> int | None:
        """The number of bytes read; 0: it has ended; None: there are none yet."""
        try:
            return pending.connection.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return 0

    def _follow(self, pending: HttpConnection, step: Step) -> None:
        unsent = self._unsent(pending, step.out)
        if unsent is None:
            self._pending.drop(pending)
            return
        if unsent or step.then in (Then.ANSWER, Then.MORE):
            self._pending.release(pending)
            self._entering.answer(pending, step._replace(out=unsent))
            return
        match step.then:
            case Then.WAIT:
                pass
            case Then.NEXT:
                self._pending.renew(pending)
            case Then.CLOSE:
                self._pending.drop(pending)
            case Then.LINGER:
                self._pending.release(pending)
                self._linger(pending)
            case Then.TAKEN:
                assert step.taker is not None
                assert not isinstance(step.taker, Answer)
                self._pending.release(pending)
                self._entering.take_over(pending, step.taker, step.rest)

    @staticmethod
    def _unsent(pending: HttpConnection, out: bytes) -> bytes | None:
        """What does not fit into the kernel's buffer; None: the connection has ended."""
        if not out:
            return out
        try:
            return out[pending.connection.send(out) :]
        except (BlockingIOError, InterruptedError):
            return out
        except OSError:
            return None

    def _linger(self, pending: HttpConnection) -> None:
        try:
            pending.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pending.connection.close()
            self._over(pending)
        else:
            pending.lingers = True
            self._lingering.add(pending)

    def _discard(self, pending: HttpConnection) -> None:
        size = self._read(pending)
        pending.left -= size or 0
        if size == 0 or pending.left < 0:
            self._lingering.drop(pending)
