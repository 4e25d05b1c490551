"""Why a client has no connection, in words that name neither a library nor a token."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import orjson
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.http11 import Response

from .codes import ABNORMAL

Kind = Literal[
    # Before the handshake: an unknown host, no connection, no TLS, an untrusted certificate, not a
    # WebSocket server.
    "host",
    "connection",
    "tls",
    "certificate",
    "websocket",
    # During the handshake: the server closed the connection, sent nothing, or an HTTP status.
    "cut",
    "timeout",
    "status",
    # Afterwards: the stream cannot be read yet, the connection was closed, or is silent.
    "stream",
    "closed",
    "silence",
    # The application gave no token.
    "token",
]
_PORTS: Final = {"ws": 80, "wss": 443}
_PRINTABLE: Final = re.compile(r"[^\s\x00-\x1f\x7f]+")
_ERRNO: Final = re.compile(r"\[Errno ([0-9]+)\]")
# OpenSSL's X509_V_ERR_*.
_CERTIFICATES: Final = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "its authority is unknown",
    20: "its authority is unknown",
    21: "its authority is unknown",
    62: "it is for another host",
    64: "it is for another host",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a client has no connection. text: for people.

    status: the close code or the HTTP status; ABNORMAL where there was neither. code: that of the
    error or notice that preceded the close.
    """

    kind: Kind
    text: str
    status: int = ABNORMAL
    code: str | None = None


class Refused(Exception):
    """The service refuses this client for good: another attempt would fail the same way.

    code: the error code of the service, such as UNAUTHORIZED; close: the close code, or the HTTP
    status; None where there is none.
    """

    def __init__(self, message: str, code: str | None = None, close: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.close = close


class NoToken(Exception):
    """The application's function that gives tokens has failed."""


def explain(error: Exception, address: str) -> Failure | None:
    """Why an attempt to connect failed; None for an error of another kind, such as Refused.

    address: HOST:PORT.
    """
    match error:
        case NoToken():
            return Failure("token", str(error))
        case InvalidStatus():
            return _status(error.response)
        case InvalidMessage() if isinstance(error.__cause__, EOFError):
            return _cut(address)
        case InvalidMessage():
            return Failure("websocket", f"{address} does not speak WebSocket")
        case InvalidHandshake():
            return Failure("websocket", "the answer to the handshake is not a WebSocket's", 101)
        case ssl.SSLCertVerificationError():
            why = _CERTIFICATES.get(error.verify_code, "it cannot be verified")
            return Failure("certificate", f"the certificate of {address} is not trusted: {why}")
        case ssl.SSLError() if error.reason == "WRONG_VERSION_NUMBER":
            return Failure("tls", f"{address} does not speak TLS")
        case ssl.SSLError():
            return Failure("tls", f"{address} and this client have no TLS version in common")
        case socket.gaierror() | UnicodeError():
            return Failure("host", f"{address.rpartition(':')[0]} is not a known host")
        case TimeoutError():
            return Failure("timeout", f"{address} does not answer")
        case ConnectionResetError() | BrokenPipeError():
            return _cut(address)
        case OSError():
            return Failure("connection", _connection(error, address))
    return None


def address(url: str) -> str:
    """HOST:PORT of a WebSocket URL; raises ValueError, whose text has no secret of the URL."""
    try:
        parts = urlsplit(url)
        # `port` raises ValueError for anything but a port number.
        good = parts.scheme in _PORTS and parts.hostname and parts.port != 0 and not parts.fragment
    except ValueError:
        good = None
    if not good or not _PRINTABLE.fullmatch(url):
        raise ValueError(f"not a WebSocket URL: {without_secrets(url)}")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or _PORTS[parts.scheme]}"


def without_secrets(url: str) -> str:
    """A URL without its query, fragment, user and password, on one line."""
    shown = re.sub(r"//[^/@]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0])
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", shown)


def _connection(error: OSError, address: str) -> str:
    # For a name with several addresses, the text has the errors of all attempts.
    numbers = {error.errno, *map(int, _ERRNO.findall(str(error)))}
    # Windows has several numbers for it.
    if isinstance(error, ConnectionRefusedError) or errno.ECONNREFUSED in numbers:
        return f"nothing listens at {address}"
    if numbers & {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}:
        return f"{address} cannot be reached"
    if numbers & {errno.EMFILE, errno.ENFILE}:
        return "this process has too many files open"
    return f"no connection to {address}"


def _cut(address: str) -> Failure:
    return Failure("cut", f"{address} ended the connection before the handshake was over")


def _status(response: Response) -> Failure:
    status = response.status_code
    try:
        body = orjson.loads(response.body)
        text, code = f"HTTP {status}: {body['message']}", body.get("code")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        text, code = f"HTTP {status}", None
    return Failure("status", text, status, code if isinstance(code, str) else None)
