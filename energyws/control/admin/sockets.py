"""The sockets that the admin port listens on: an address, or a path (unix(7))."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import Final

from energyws.errors import BootError

_BACKLOG: Final = 128


def listen_on_address(keys: str, host: str, port: int) -> socket.socket:
    """keys: those of the configuration that have them, for the BootError."""
    # Not create_server: its sockets on :: leave IPv4 out.
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        text = f"{keys}: cannot listen on {host}:{port}: {_reason(error)}"
        raise BootError(text) from None
    return made


def listen_on_path(path: str) -> socket.socket:
    """A socket for its owner and root only. Removes one that a dead service has left.

    Raises BootError, also for whatever else is at `path`.
    """
    made = socket.socket(socket.AF_UNIX)
    try:
        _remove_left_over(path)
        made.bind(path)
        # Before it listens, nobody can connect.
        os.chmod(path, 0o600)
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise BootError(f"admin.socket: cannot listen on {path}: {_reason(error)}") from None
    except BootError:
        made.close()
        raise
    return made


def remove(path: str) -> None:
    """Remove the socket of a service that ends."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def _remove_left_over(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise BootError(f"admin.socket: {path} exists and is no socket: remove it, or use another")
    with socket.socket(socket.AF_UNIX) as other, contextlib.suppress(BlockingIOError):
        # Connecting to one whose queue is full would block.
        other.setblocking(False)
        try:
            other.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise BootError(f"admin.socket: another process answers on {path}: use another path")


def _reason(error: OSError) -> str:
    # Too long a path has no strerror.
    return error.strerror or str(error)
