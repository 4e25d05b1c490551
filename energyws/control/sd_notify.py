"""Telling the service manager how the service fares: sd_notify(3), without its library.

Each message is one datagram of NAME=value lines to the socket that NOTIFY_SOCKET names. Without
one, nobody is told anything.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Final

from energyws.logs.events import Log

_ABSTRACT: Final = "@"
_MICROSECONDS: Final = 1_000_000
# STATUS is one line of `systemctl status`.
_STATUS_CHARACTERS: Final = 200

_log = Log("supervisor")


class ServiceManager:
    """What watches over this process, such as systemd. `address` is where it listens.

    watchdog_seconds: how long it lets this process be silent; None: for ever.
    """

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        self._socket: socket.socket | None = None
        if address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            # It may be slow, or hang; what it does not take is said again at the next step.
            self._socket.setblocking(False)
            # A leading @ stands for the zero byte of an abstract address (unix(7)).
            abstract = address.startswith(_ABSTRACT)
            self._address = "\0" + address[1:] if abstract else address
        self._every = None if watchdog_seconds is None else watchdog_seconds / 2
        self._patted_at = float("-inf")
        self._ready = self._unreachable = False
        self._status = ""

    def close(self) -> None:
        """Say nothing further."""
        if self._socket is not None:
            self._socket.close()

    def step(self, reasons: Sequence[str], now: float) -> None:
        """Say what is new; to be called often. reasons: why the service is not ready.

        READY=1 is said once. There is no way to take it back: STATUS tells what is wrong since.
        """
        if self._socket is None:
            return
        if not self._ready and not reasons:
            self._ready = self._send("READY=1")
        status = f"not ready: {', '.join(reasons)}" if reasons else "ready"
        if status != self._status and self._send(f"STATUS={status[:_STATUS_CHARACTERS]}"):
            self._status = status
        # Half of the time that the manager waits, as sd_watchdog_enabled(3) recommends.
        overdue = self._every is not None and now - self._patted_at >= self._every
        if overdue and self._send("WATCHDOG=1"):
            self._patted_at = now

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """The configuration is read again; READY=1 ends it, whether it was taken or refused."""
        if not self._ready:
            # It is still waiting for the first READY=1, which this must not be.
            yield
            return
        # systemd.service(5), Type=notify-reload: it waits for a message made after its signal.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self._ready = self._send("READY=1")

    def stopping(self) -> None:
        """The service is on its way out."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._unreachable:
                _log.warning("the service manager cannot be told", reason=error.strerror)
            self._unreachable = True
            return False
        self._unreachable = False
        return True


def manager(environment: MutableMapping[str, str]) -> ServiceManager:
    """The one that started this process, as the environment says.

    What says so is removed: children are not to speak for us.
    """
    address = environment.pop("NOTIFY_SOCKET", None) or None
    microseconds = environment.pop("WATCHDOG_USEC", "")
    meant = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    if address is not None and address[0] not in (_ABSTRACT, "/"):
        _log.warning("NOTIFY_SOCKET is no Unix socket: nobody is told anything")
        address = None
    watched = meant and microseconds.isdecimal() and int(microseconds) > 0
    return ServiceManager(address, int(microseconds) / _MICROSECONDS if watched else None)
