"""Orders for one child, sent in the order in which they were given.

A child that has not read earlier orders leaves no room for the next one, which then waits here and
is sent later. Of two waiting orders of one kind only the newer one is kept: it says all.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from energyws.logs.events import Log
from energyws.process.control_messages import ControlMessage, pack

# The child has no room, or the kernel has no memory: both pass.
_LATER: Final = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)

_log = Log("supervisor")


class Mailbox:
    """`connected`: a non-blocking SOCK_SEQPACKET socket, closed by `close`; name: the child's."""

    def __init__(self, name: str, connected: socket.socket) -> None:
        self._name = name
        self._socket = connected
        self._waiting: dict[type[ControlMessage], bytes] = {}

    def put(self, order: ControlMessage) -> bool:
        """Send an order now or, where there is no room, at a later `flush`.

        False: no datagram is that large, so it never reaches the child.
        """
        kind = type(order)
        # Behind those that wait already: a child obeys in order.
        self._waiting.pop(kind, None)
        self._waiting[kind] = pack(order)
        return kind not in self.flush()

    def flush(self) -> set[type[ControlMessage]]:
        """Send what waits, as far as there is room; the kinds of what is too large."""
        too_large: set[type[ControlMessage]] = set()
        for kind, data in list(self._waiting.items()):
            try:
                self._socket.send(data)
            except OSError as error:
                if error.errno in _LATER:
                    break
                # Otherwise the child has ended, which is seen elsewhere.
                if error.errno == errno.EMSGSIZE:
                    too_large.add(kind)
                _log.warning(
                    "order not delivered",
                    child=self._name,
                    order=kind.__name__,
                    reason=error.strerror,
                )
            del self._waiting[kind]
        return too_large

    def close(self) -> None:
        """Send nothing any more: the child takes it as the end of its supervisor."""
        self._waiting.clear()
        self._socket.close()
