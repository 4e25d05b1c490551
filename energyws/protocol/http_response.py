"""HTTP responses (RFC 9110, RFC 9112)."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

ALLOWED: Final = ("GET", "HEAD")
# RFC 9110 section 8.6: a 204 has no Content-Length, and a 304 none that is not the 200's.
_BODILESS: Final = (204, 304)


@dataclass(frozen=True, slots=True)
class Response:
    """`headers`: those that describe the body; `encode` adds the headers of every response."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def is_error(self) -> bool:
        """Whether it ends its connection: after an error the next request's start is uncertain."""
        return self.status >= HTTPStatus.BAD_REQUEST

    def encode(self, *, now: float, closes: bool, head_only: bool) -> bytes:
        """The whole response; without its body for a HEAD request (RFC 9110 section 9.3.2).

        now: Unix seconds. closes: whether the connection ends after it.
        """
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            f"Date: {_date(int(now))}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        if self.status not in _BODILESS:
            lines.append(f"Content-Length: {len(self.body)}")
        if closes:
            lines.append("Connection: close")
        head = "\r\n".join([*lines, "", ""]).encode()
        return head if head_only else head + self.body


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """RFC 9110 section 5.6.7."""
    return formatdate(second, usegmt=True)
