"""Where the demo's service listens, and where others reach it."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Final

from energyws.errors import EnergywsError

# Enough for a machine full of demos; more would hide a fault of another kind.
ATTEMPTS: Final = 100
_HIGHEST: Final = 65_535
# TEST-NET-1 (RFC 5737): nothing is ever sent there.
_ELSEWHERE: Final = ("192.0.2.1", 9)


def free_port(host: str, port: int) -> int:
    """`port`, or the next one above it that is free; 0 stays 0: any.

    Raises EnergywsError when there is none, or when this user may not listen there.
    """
    if port == 0:
        return 0
    for candidate in range(port, min(port + ATTEMPTS, _HIGHEST + 1)):
        try:
            _try(host, candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                reason = error.strerror or os.strerror(error.errno or errno.EINVAL)
                raise EnergywsError(
                    f"cannot listen on {host}:{candidate}: {reason} "
                    "(--host names an address of this machine, --port 0 takes any free port)"
                ) from None
        else:
            return candidate
    raise EnergywsError(
        f"port {port} and the {ATTEMPTS - 1} above it are taken: --port 0 takes any free one"
    )


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach the host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def local_address(host: str) -> str:
    """What programs on this machine use for a service that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def outside_address(host: str) -> str | None:
    """What a phone in the same network uses; None: it cannot reach the service."""
    if is_loopback(host):
        return None
    if host not in ("0.0.0.0", "::"):
        return host
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # Sends nothing: connecting a datagram socket only chooses the route.
            probe.connect(_ELSEWHERE)
            found = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if is_loopback(found) else found


def _try(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, error.strerror) from None
    with socket.socket(family, kind, protocol) as listener:
        # Connections that have ended do not keep a port; the service does the same.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
