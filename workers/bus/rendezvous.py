"""Where workers find the consumer: each consumer binds its sockets in a directory of its own, and
the link `current` names the directory of the one that serves.

So a successor can bind its sockets while the old consumer still publishes, and take over in one
step (rename(2)). Binding an ipc path that is in use would steal it, and when the first consumer
closed its socket, it would remove the second one's path.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import zmq

RECONNECT_MILLISECONDS: Final = 20
_LINK: Final = "current"


def current(bus: Path) -> Path:
    """The directory that workers connect to: that of the consumer that serves at that moment."""
    return bus / _LINK


def endpoint(directory: Path, name: str) -> str:
    """The address of one of a consumer's sockets."""
    return f"ipc://{directory / name}"


def dealer(
    context: zmq.Context[zmq.Socket[bytes]], directory: Path, name: str
) -> zmq.Socket[bytes]:
    """A worker's socket for requests, connected to one of a consumer's sockets."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
    socket.connect(endpoint(directory, name))
    return socket


class BusDirectory:
    """One consumer's directory below the service's directory for the bus."""

    def __init__(self, bus: Path) -> None:
        self._bus = bus
        self.path = bus / f"consumer-{os.getpid()}"
        # A cleaner of temporary files may have removed both.
        bus.mkdir(mode=0o700, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)

    def take_over(self) -> None:
        """Make this the consumer that workers find."""
        link = self.path / _LINK
        link.unlink(missing_ok=True)
        link.symlink_to(self.path.name)
        link.replace(current(self._bus))

    def found(self) -> bool:
        """Whether there is a link for workers to follow."""
        return current(self._bus).is_symlink()
