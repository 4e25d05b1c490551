"""Why a client has no connection: in words that name neither a library nor a token."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import orjson
from picows import WSError, WSHandshakeError

Kind = Literal[
    # Before the handshake: no such host, nothing there, no TLS there, a certificate that is not
    # trusted, no WebSocket there.
    "host",
    "connection",
    "tls",
    "certificate",
    "websocket",
    # During the handshake: the other side ended it, answered nothing, or an HTTP status.
    "cut",
    "timeout",
    "status",
    # Afterwards: the stream cannot be read yet, closed, or silent.
    "stream",
    "closed",
    "silence",
    # No token to try with.
    "token",
]
ABNORMAL: Final = 1006
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
    """Why there is no connection. text: for people.

    status: the close code or the HTTP status; ABNORMAL where there was neither. code: the code of
    the error or notice that came with it.
    """

    kind: Kind
    text: str
    status: int = ABNORMAL
    code: str | None = None


def of(error: Exception, place: str) -> Failure | None:
    """Why an attempt to connect has failed; None for an error that is none of a network.

    place: HOST:PORT.
    """
    match error:
        case WSHandshakeError() if error.response is not None:
            return _status(error, int(error.response.status))
        case WSError():
            return Failure("websocket", f"{place} speaks no WebSocket")
        case ssl.SSLCertVerificationError():
            why = _CERTIFICATES.get(error.verify_code, "it cannot be verified")
            return Failure("certificate", f"the certificate of {place} is not trusted: {why}")
        case ssl.SSLError() if error.reason == "WRONG_VERSION_NUMBER":
            return Failure("tls", f"{place} speaks no TLS")
        case ssl.SSLError():
            return Failure("tls", f"{place} and this client have no TLS in common")
        case socket.gaierror() | UnicodeError():
            return Failure("host", f"{place.rpartition(':')[0]} is no known host")
        case TimeoutError():
            return Failure("timeout", f"{place} does not answer")
        case ConnectionResetError() | BrokenPipeError() | EOFError():
            return Failure("cut", f"{place} ended the connection before the handshake was over")
        case OSError():
            return Failure("connection", _connection(error, place))
    return None


def place(url: str) -> str:
    """HOST:PORT of a WebSocket URL; raises ValueError, without what may be secret in it."""
    try:
        parts = urlsplit(url)
        # A port that is no number raises, too.
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


def _connection(error: OSError, place: str) -> str:
    # Where a name has several addresses, one text speaks for all attempts.
    numbers = {error.errno, *map(int, _ERRNO.findall(str(error)))}
    if errno.ECONNREFUSED in numbers:
        return f"nothing listens at {place}"
    if numbers & {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}:
        return f"{place} cannot be reached"
    if numbers & {errno.EMFILE, errno.ENFILE}:
        return "this process has too many files open"
    return f"no connection to {place}"


def _status(error: WSHandshakeError, status: int) -> Failure:
    if status == 101:
        return Failure("websocket", "the answer to the handshake is not a WebSocket's", status)
    try:
        body = orjson.loads(error.raw_body or b"")
        text, code = f"HTTP {status}: {body['message']}", body.get("code")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        text, code = f"HTTP {status}", None
    return Failure("status", text, status, code if isinstance(code, str) else None)
