"""HTTP responses (RFC 9110, RFC 9112)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from energyws.errors import ErrorCode
from energyws.protocol import event_stream, messages

ALLOWED: Final = ("GET", "HEAD")
# Clients try a full or restarting service again after 1 to 5 seconds, not all at once.
_RETRY_AFTER_SECONDS: Final = (1, 5)
# Of every event stream: nothing on the way may keep, change or collect it. Without the third, nginx
# holds it back until it ends.
EVENT_STREAM: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}


@dataclass(frozen=True, slots=True)
class Response:
    """`headers`: those that describe the body; `encode` adds the headers of every response.

    body: None where the head alone is the response, or its length is not known yet. ends: whether
    it is the last one of its connection in any case.
    """

    status: int
    body: bytes | None
    headers: Mapping[str, str] = field(default_factory=dict)
    ends: bool = False

    @property
    def is_error(self) -> bool:
        """Whether it ends its connection: after an error the next request's start is uncertain."""
        return self.ends or self.status >= HTTPStatus.BAD_REQUEST

    def encode(self, *, now: float, closes: bool, head_only: bool) -> bytes:
        """The whole response; without its body for a HEAD request (RFC 9110 section 9.3.2).

        now: Unix seconds. closes: whether the connection ends after it.
        """
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Date: {_date(int(now))}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        if closes:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode()
        return head if head_only or self.body is None else head + self.body


def matches(if_none_match: str, tag: str) -> bool:
    """Whether one of the field's tags is this one (RFC 9110 section 13.1.2).

    The comparison is the weak one: proxies that compress weaken tags.
    """
    return any(each.strip().removeprefix("W/") in ("*", tag) for each in if_none_match.split(","))


def refusal(
    error: ErrorCode, detail: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """The response with this code. headers: further ones."""
    fields = {"Content-Type": "application/json", "Cache-Control": "no-store", **(headers or {})}
    match error.status:
        case 401:
            fields["WWW-Authenticate"] = 'Bearer realm="energyws"'
        case 405:
            fields.setdefault("Allow", ", ".join(ALLOWED))
        case 426:
            fields |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        case 429 | 503:
            fields["Retry-After"] = str(random.randint(*_RETRY_AFTER_SECONDS))
    return Response(error.status, messages.error_body(error, detail), fields)


def event_refusal(
    error: ErrorCode, detail: str, headers: Mapping[str, str], last_event_id: str
) -> Response:
    """The same for EventSource, which gives up for good at any status but 200."""
    low, high = _RETRY_AFTER_SECONDS
    begin = event_stream.begin(random.randint(1000 * low, 1000 * high), last_event_id)
    body = begin + event_stream.problem(messages.error_body(error, detail))
    return Response(200, body, {**EVENT_STREAM, **headers}, ends=True)


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """RFC 9110 section 5.6.7."""
    return formatdate(second, usegmt=True)
