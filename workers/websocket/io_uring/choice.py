"""How a worker sends live frames: by io_uring where it may, otherwise one send for each client."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from energyws.logs.events import Log
from energyws.process.board import Field, Row
from energyws.process.io_uring import IoUring
from energyws.settings import Server
from workers.websocket.io_uring.kernel import open_send_queue
from workers.websocket.io_uring.send_queue import SendQueue

_BY_ERROR: Final = {
    errno.EPERM: IoUring.FORBIDDEN,
    errno.EACCES: IoUring.FORBIDDEN,
    errno.ENOSYS: IoUring.UNSUPPORTED,
    errno.EINVAL: IoUring.UNSUPPORTED,
}

_log = Log("worker")


class Choice:
    """queue: to send by; None: there is none, and never will be in this process."""

    def __init__(
        self, server: Server, row: Row, open_queue: Callable[[], SendQueue] = open_send_queue
    ) -> None:
        self.queue: SendQueue | None = None
        self._row = row
        self._tls = server.tls is not None
        self._without = IoUring.OFF
        reason: OSError | None = None
        if server.io_uring == "auto":
            try:
                self.queue = open_queue()
            except OSError as error:
                reason = error
                self._without = _BY_ERROR.get(error.errno or 0, IoUring.FAILED)
        self._say(reason)

    def use_settings(self, server: Server) -> None:
        """TLS may have been turned on or off: clients that come from now on have it or not."""
        tls = server.tls is not None
        if tls is not self._tls:
            self._tls = tls
            self._say(None)

    def tick(self) -> None:
        """To be called about once a second: says so when the queue cannot be used any more."""
        if self.queue is not None and (failure := self.queue.failure) is not None:
            self.queue = None
            self._without = IoUring.FAILED
            self._say(failure)

    @property
    def _state(self) -> IoUring:
        if self.queue is None:
            return self._without
        return IoUring.TLS if self._tls else IoUring.IN_USE

    def _say(self, reason: OSError | None) -> None:
        state = self._state
        self._row[Field.IO_URING] = state
        if state is IoUring.IN_USE:
            _log.info("live frames go out by io_uring")
        else:
            _log.info(
                "live frames go out one send for each client",
                io_uring=state.label,
                reason=reason or state.text,
            )
