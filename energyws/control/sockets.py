"""The listening sockets: one per worker slot, bound before the first worker starts, kept for life.

SO_REUSEPORT lets them share a port (socket(7)); the kernel spreads connections over them by a hash
of the addresses. Closing one resets what waits in its queue, so only the supervisor ever does.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Final

from energyws.errors import BootError
from energyws.settings import Server

# Of this network namespace, as a listening socket is.
SOMAXCONN: Final = Path("/proc/sys/net/core/somaxconn")


def queue_limit(backlog: int, somaxconn: Path = SOMAXCONN) -> int | None:
    """How many connections may really wait, where the kernel allows fewer than `backlog`.

    listen(2) says nothing when it takes less than it was given. None: it takes all, or nobody
    can tell.
    """
    try:
        limit = int(somaxconn.read_text())
    except (OSError, ValueError):
        return None
    return limit if limit < backlog else None


def open_listeners(settings: Server, count: int) -> list[socket.socket]:
    """`count` sockets listening on server.host and server.port; raises BootError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # Another service of the same user could join the port with SO_REUSEPORT unnoticed, and
        # take a share of its connections; without it, the port must be free.
        with _socket(family, kind, protocol, reuse_port=False) as probe:
            probe.bind(address)
            port = probe.getsockname()[1]
        address = (address[0], port, *address[2:])
        listeners = []
        for _ in range(count):
            listener = _socket(family, kind, protocol, reuse_port=True)
            listeners.append(listener)
            listener.bind(address)
            listener.listen(settings.backlog)
    except OSError as error:
        hint = ": is the service running already?" if error.errno == errno.EADDRINUSE else ""
        raise BootError(
            f"server.host, server.port: cannot listen on {settings.host}:{settings.port}: "
            f"{error.strerror}{hint}"
        ) from None
    return listeners


def _socket(
    family: socket.AddressFamily, kind: socket.SocketKind, protocol: int, *, reuse_port: bool
) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made
