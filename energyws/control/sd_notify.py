"""Reports to the service manager, such as systemd: sd_notify(3), without its library.

Each message is one datagram of NAME=value lines to the socket that NOTIFY_SOCKET names; without
that variable nothing is sent.
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
    """address: of its socket; None: there is no service manager.

    watchdog_seconds: how long this process may be silent; None: without limit.
    """

    def __init__(self, address: str | None, watchdog_seconds: float | None = None) -> None:
        self._socket: socket.socket | None = None
        if address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            # The manager may be slow or hang; what it does not receive is sent at a later step.
            self._socket.setblocking(False)
            # A leading @ stands for the zero byte of an abstract address (unix(7)).
            abstract = address.startswith(_ABSTRACT)
            self._address = "\0" + address[1:] if abstract else address
        self._every = None if watchdog_seconds is None else watchdog_seconds / 2
        self._watchdog_at = float("-inf")
        self._ready = self._unreachable = False
        self._status = ""

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()

    def step(self, reasons: Sequence[str], now: float) -> None:
        """Report changes; to be called often. reasons: why the service is not ready.

        READY=1 is sent once and cannot be taken back; later problems are in STATUS.
        """
        if self._socket is None:
            return
        if not self._ready and not reasons:
            self._ready = self._send("READY=1")
        status = f"not ready: {', '.join(reasons)}" if reasons else "ready"
        if status != self._status and self._send(f"STATUS={status[:_STATUS_CHARACTERS]}"):
            self._status = status
        # Half of the time that the manager waits, as sd_watchdog_enabled(3) recommends.
        overdue = self._every is not None and now - self._watchdog_at >= self._every
        if overdue and self._send("WATCHDOG=1"):
            self._watchdog_at = now

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Report a reload; READY=1 ends it, whether the configuration was applied or refused."""
        if not self._ready:
            # The manager still waits for the first READY=1, and would take this one for it.
            yield
            return
        # systemd.service(5), Type=notify-reload: the time must be later than the signal's.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self._ready = self._send("READY=1")

    def stopping(self) -> None:
        """Report that the service shuts down."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._unreachable:
                _log.warning("sd_notify failed", reason=error.strerror)
            self._unreachable = True
            return False
        self._unreachable = False
        return True


def manager(environment: MutableMapping[str, str]) -> ServiceManager:
    """The service manager that started this process, from the environment.

    Removes the variables, so that children do not report in our name.
    """
    address = environment.pop("NOTIFY_SOCKET", None) or None
    microseconds = environment.pop("WATCHDOG_USEC", "")
    for_us = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    if address is not None and address[0] not in (_ABSTRACT, "/"):
        _log.warning("NOTIFY_SOCKET is not a Unix socket: sd_notify is off")
        address = None
    watched = for_us and microseconds.isdecimal() and int(microseconds) > 0
    return ServiceManager(address, int(microseconds) / _MICROSECONDS if watched else None)
