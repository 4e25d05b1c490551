"""Finds and checks the head of an HTTP request: RFC 9112 (sections 2 to 6), RFC 9110, RFC 6455.

This module bounds the head and parses the request line. The caller parses the header fields with
httptools, which has no limits of its own and accepts some of what these sections forbid; `checked`
refuses that. A body is never read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from multidict import CIMultiDict

from energyws.errors import (
    BAD_REQUEST,
    HEADERS_TOO_LARGE,
    NOT_IMPLEMENTED,
    URI_TOO_LONG,
    VERSION_NOT_SUPPORTED,
    EnergywsError,
    ErrorCode,
)

MAX_HEAD_BYTES: Final = 16 * 1024
# Room in the query for a token of MAX_TOKEN_BYTES, and for positions.
MAX_TARGET_BYTES: Final = 12 * 1024
MAX_FIELDS: Final = 100
# Members of each list below, and parameters of its members. Clients send a few of them; each costs
# as much as a short field.
MAX_MEMBERS: Final = 32

# RFC 9110 section 9.1, and PATCH (RFC 5789).
_METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
)
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# RFC 9112 section 3: single spaces; a target is printable ASCII.
_LINE: Final = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
# A valid beginning of a request line.
_BEGINNING: Final = re.compile(rb"\r|" + _TOKEN + rb"(?: [^\r\n]*\r?)?")
_LONGEST_METHOD: Final = 32
# RFC 9112 section 3.2.2.
_ABSOLUTE: Final = re.compile(r"(?:https?|wss?)://[^/?]+(?=[/?]|\Z)", re.IGNORECASE)
# RFC 3986 section 3.2.2, with a port; empty where the target has no authority.
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(?::[0-9]*)?")
# RFC 6455 section 11.3, RFC 6454 section 7.3. Proxies disagree about which of two counts.
_SINGLE: Final = ("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Origin")
# Lists that are read before the client is known, with what separates or, in a quoted string,
# escapes their parts (RFC 9110 section 5.6).
_LISTS: Final = {
    "Connection": ",",
    "Upgrade": ",",
    "Sec-WebSocket-Protocol": ",",
    "Sec-WebSocket-Extensions": ",;\\",
}


class BadRequest(EnergywsError):
    """A request that is answered with `error`; its connection is closed afterwards."""

    def __init__(self, error: ErrorCode, detail: str = "") -> None:
        super().__init__(error.code)
        self.error = error
        self.detail = detail


@dataclass(slots=True)
class Request:
    """The head of a request.

    minor: x of HTTP/1.x. path: `*` for the asterisk-form, empty for the authority-form.
    """

    method: str
    path: str
    query: str
    minor: int
    headers: CIMultiDict[str]

    @property
    def persists(self) -> bool:
        """Whether the client may send another request (RFC 9112 section 9.3).

        Never with HTTP/1.0, even with `Connection: keep-alive`.
        """
        return self.minor > 0 and not self.has_body and "close" not in self.tokens("Connection")

    @property
    def has_body(self) -> bool:
        """Whether a body follows the head (RFC 9112 section 6)."""
        return (
            "Transfer-Encoding" in self.headers
            or self.headers.get("Content-Length", "0").strip("0") != ""
        )

    def tokens(self, name: str) -> set[str]:
        """The members of a comma-separated field, in lower case."""
        values = ",".join(self.headers.getall(name, ()))
        return {token.strip().lower() for token in values.split(",")}


def head_size(data: bytes) -> int | None:
    """The size in bytes of the head at the start of `data`; None while it is incomplete.

    Raises BadRequest as soon as no further bytes can complete it to a valid head.
    """
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    if end >= 0:
        return end + 4
    line, whole, _ = data[:MAX_HEAD_BYTES].partition(b"\r\n")
    if len(line) > _LONGEST_METHOD + MAX_TARGET_BYTES:
        raise BadRequest(URI_TOO_LONG)
    if len(data) >= MAX_HEAD_BYTES:
        raise BadRequest(HEADERS_TOO_LARGE)
    if whole:
        parse_line(data)
    elif data and not _BEGINNING.fullmatch(line):
        # Another protocol: TLS, for example.
        raise BadRequest(BAD_REQUEST, "the request line is none")
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadRequest(BAD_REQUEST, "lines end with CR LF")
    return None


def parse_line(head: bytes) -> tuple[str, str, str, int]:
    """Method, path, query and minor version of a head whose first line is complete.

    Raises BadRequest, also for too many fields.
    """
    line, _, fields = head.partition(b"\r\n")
    if len(line) > _LONGEST_METHOD + MAX_TARGET_BYTES:
        raise BadRequest(URI_TOO_LONG)
    # One of them ends the empty line after the fields.
    if fields.count(b"\r\n") - 1 > MAX_FIELDS:
        raise BadRequest(HEADERS_TOO_LARGE)
    found = _LINE.fullmatch(line)
    if found is None:
        # As from curl, which sends a query as it is typed.
        detail = (
            "the request line is none" if line.isascii() else "its target is not percent-encoded"
        )
        raise BadRequest(BAD_REQUEST, detail)
    method, target, major, minor = (part.decode("ascii") for part in found.groups())
    if (major, minor) not in {("1", "1"), ("1", "0")}:
        raise BadRequest(VERSION_NOT_SUPPORTED)
    if method not in _METHODS:
        raise BadRequest(NOT_IMPLEMENTED)
    if len(target) > MAX_TARGET_BYTES:
        raise BadRequest(URI_TOO_LONG)
    path, query = _path(method, target)
    return method, path, query, int(minor)


def _path(method: str, target: str) -> tuple[str, str]:
    """Path and query of a target in any form (RFC 9112 section 3.2)."""
    if "#" in target:
        raise BadRequest(BAD_REQUEST, "a target has no fragment")
    if not target.startswith("/"):
        if method == "CONNECT":
            return "", ""
        if method == "OPTIONS" and target == "*":
            return target, ""
        authority = _ABSOLUTE.match(target)
        if authority is None:
            raise BadRequest(BAD_REQUEST, "the target is none")
        target = target[authority.end() :]
    path, _, query = target.partition("?")
    return path or "/", query


def checked(request: Request) -> Request:
    """The same request; raises BadRequest for fields that httptools accepts but the RFCs forbid."""
    headers = request.headers
    hosts = headers.getall("Host", ())
    # RFC 9112 section 3.2: optional in HTTP/1.0.
    if len(hosts) != 1 and (hosts or request.minor):
        raise BadRequest(BAD_REQUEST, "exactly one Host header is needed")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise BadRequest(BAD_REQUEST, "Host names no host")
    for name in _SINGLE:
        if len(headers.getall(name, ())) > 1:
            raise BadRequest(BAD_REQUEST, f"{name} may come once")
    for name, marks in _LISTS.items():
        values = headers.getall(name, ())
        # Nearly all are one value that is too short to have so many members.
        if len(values) + sum(map(len, values)) <= MAX_MEMBERS:
            continue
        if len(values) + sum(text.count(mark) for text in values for mark in marks) > MAX_MEMBERS:
            raise BadRequest(HEADERS_TOO_LARGE, f"{name} may have {MAX_MEMBERS} members")
    return request
