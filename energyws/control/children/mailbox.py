"""Control messages to one child, sent in the order in which they were put.

While a child has not read earlier messages there may be no room for the next one, which then waits
here and is sent later. Of two waiting messages of one kind only the newer one is kept: it replaces
the older one completely.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from energyws.logs.events import Log
from energyws.process.control_messages import ControlMessage, pack

# The child's socket has no room, or the kernel no memory: both pass.
_LATER: Final = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)

_log = Log("supervisor")


class Mailbox:
    """name: the child's. connected: a non-blocking SOCK_SEQPACKET socket, which `close` closes."""

    def __init__(self, name: str, connected: socket.socket) -> None:
        self._name = name
        self._socket = connected
        self._waiting: dict[type[ControlMessage], bytes] = {}

    def put(self, message: ControlMessage) -> bool:
        """Send a message now or, if there is no room, at a later `flush`.

        False: it is too large for a datagram and never reaches the child.
        """
        kind = type(message)
        # Behind those that wait already: a child obeys in order.
        self._waiting.pop(kind, None)
        self._waiting[kind] = pack(message)
        return kind not in self.flush()

    def flush(self) -> set[type[ControlMessage]]:
        """Send as many waiting messages as there is room for; the kinds of those too large."""
        too_large: set[type[ControlMessage]] = set()
        for kind, data in list(self._waiting.items()):
            try:
                self._socket.send(data)
            except OSError as error:
                if error.errno in _LATER:
                    break
                # With any other error the child has ended; children.py notices that.
                if error.errno == errno.EMSGSIZE:
                    too_large.add(kind)
                _log.warning(
                    "control message not delivered",
                    child=self._name,
                    message=kind.__name__,
                    reason=error.strerror,
                )
            del self._waiting[kind]
        return too_large

    def close(self) -> None:
        """Drop the waiting messages and close the socket: a child that still runs ends."""
        self._waiting.clear()
        self._socket.close()
