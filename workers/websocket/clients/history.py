"""The answer to `GET /history/<stream>`: newline-delimited JSON, as fast as the client reads it."""

from __future__ import annotations

from typing import Any, Final

from energyws.errors import HISTORY_UNAVAILABLE
from energyws.protocol import json_lines
from energyws.protocol.messages import Subscribed
from energyws.protocol.position import Position
from workers.websocket.clients.answers import Asked, StreamedAnswer
from workers.websocket.clients.context import Context

HEADERS: Final = {"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}


class History(StreamedAnswer):
    """Up to `limit` records, then an `end` line. An answer without that line was cut."""

    __slots__ = ("_left", "_position")

    def __init__(self, context: Context, asked: Asked, limit: int) -> None:
        super().__init__(context, asked, HEADERS, is_counted=True)
        self._left = limit
        self._position = ""

    def take(self, lines: bytes) -> None:
        count = lines.count(b"\n")
        more = count > self._left
        if more:
            lines = b"".join(lines.splitlines(keepends=True)[: self._left])
            count = self._left
        self._left -= count
        if lines:
            self._position = json_lines.position(lines[:-1].rpartition(b"\n")[2]).decode()
        if more:
            self._end(lines, more=True)
        else:
            self.send_part(lines)

    def scanned(self, position: Position) -> None:
        # So that a client that goes on from there need not wait for the same again.
        self._position = str(position)

    def finish(self, position: str) -> None:
        self._position = position
        self._end(b"", more=False)

    def hurry(self) -> None:
        """End here; the client goes on from there."""
        if self.reply is None:
            self.refuse(HISTORY_UNAVAILABLE)
        elif self.writable:
            self._end(b"", more=True)

    def _end(self, lines: bytes, *, more: bool) -> None:
        assert self.reply is not None
        position = self._position or self.reply.position
        last = json_lines.line(end(self.asked.stream, position, self.reply, more=more))
        self.end_with(lines + last)


def end(stream: str, position: str, reply: Subscribed, *, more: bool) -> dict[str, Any]:
    """The last line. more: the topic had more when the answer ended."""
    message: dict[str, Any] = {
        "type": "end",
        "stream": stream,
        "position": position,
        "more": more,
        "recovered": reply.recovered,
    }
    if reply.reason is not None:
        message |= {
            "reason": reply.reason.value,
            "earliest": reply.earliest,
            "missing": reply.missing,
        }
    return message
