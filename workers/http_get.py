"""HTTP GET with a deadline for each part of it, for threads: issuers' keys, and schemas."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from functools import partial
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from workers.runtime import crash_on_error

_HEADERS: Final = {"Accept": "application/json", "User-Agent": "energyws"}

# What getaddrinfo(3) gives.
_Addresses = list[Any]


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until a deadline; the socket's own timeout starts again at every byte."""

    def __init__(self, connected: socket.socket, raw: io.RawIOBase) -> None:
        self._socket = connected
        self._raw = raw
        self._seconds = connected.gettimeout() or 0.0
        self._deadline = time.monotonic() + self._seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"not complete within {self._seconds:g} s")
        self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(sock, self.fp.detach()))


class Resolver:
    """Looks up host names within a deadline, which getaddrinfo(3) does not have.

    A lookup that takes longer goes on in its thread; until it ends, no other is started, so that a
    name server that never answers costs one thread.
    """

    def __init__(self) -> None:
        self._pending: threading.Thread | None = None

    def addresses(self, host: str, port: int, timeout: float) -> _Addresses:
        """Raises OSError, as TimeoutError too."""
        if self._pending is not None:
            self._pending.join(timeout)
            self._check(self._pending, timeout)
        found: list[_Addresses | OSError] = []

        def look_up() -> None:
            try:
                found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except OSError as error:
                found.append(error)
            except UnicodeError:
                found.append(OSError("not a host name"))

        # A daemon, since a process must be able to end meanwhile.
        guarded = crash_on_error(look_up)
        self._pending = thread = threading.Thread(target=guarded, name="resolver", daemon=True)
        thread.start()
        thread.join(timeout)
        self._check(thread, timeout)
        self._pending = None
        (result,) = found
        if isinstance(result, OSError):
            raise result
        return result

    @staticmethod
    def _check(thread: threading.Thread, timeout: float) -> None:
        if thread.is_alive():
            raise TimeoutError(f"the host's name was not resolved within {timeout:g} s")


class Answer(NamedTuple):
    """status: of HTTP; no redirect is followed."""

    status: int
    body: bytes


def get(
    url: str,
    timeout: float,
    resolver: Resolver,
    most: int,
    *,
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """The answer; one byte more than `most` if it is too large. context: for https.

    http.client and not urllib, which would have to be kept from redirects (they could lead to
    metadata services), other schemes, and credentials and proxies from the environment. Looking up
    the name, connecting, the TLS handshake and the answer may take `timeout` seconds each. Raises
    OSError or HTTPException.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: HTTPConnection
    if parts.scheme == "http":
        connection = HTTPConnection(host, parts.port, timeout=timeout)
    elif parts.scheme == "https":
        connection = HTTPSConnection(host, parts.port, timeout=timeout, context=context)
    else:
        raise HTTPException("only http and https URLs are fetched")
    connection.response_class = _Response
    # Where http.client connects; it has no public way to be told the addresses.
    connection._create_connection = partial(_connect, resolver)  # type: ignore[attr-defined]
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={**_HEADERS, **(headers or {})})
        with connection.getresponse() as answer:
            body = answer.read(most + 1)
            # With a number of bytes, the library takes an answer that breaks off for a whole one.
            if len(body) <= most and answer.length:
                raise IncompleteRead(body, answer.length)
            return Answer(answer.status, body)
    finally:
        connection.close()


def _connect(
    resolver: Resolver, address: tuple[str, int], timeout: float, source: None = None
) -> socket.socket:
    """socket.create_connection with one deadline for all addresses, and one for the lookup."""
    host, port = address
    deadline = None
    failed: OSError | None = None
    for family, kind, protocol, _, found in resolver.addresses(host, port, timeout):
        deadline = deadline or time.monotonic() + timeout
        left = deadline - time.monotonic()
        if left <= 0:
            break
        connected = socket.socket(family, kind, protocol)
        try:
            connected.settimeout(left)
            connected.connect(found)
        except OSError as error:
            failed = error
            connected.close()
        else:
            connected.settimeout(timeout)
            return connected
    raise failed or OSError("the host's name has no address")
