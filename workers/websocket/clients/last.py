"""The answer to `GET /last/<stream>`: the newest records, as one JSON object."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

import orjson

from energyws.protocol.http.response import Response
from energyws.protocol.json_lines import RECORD
from workers.websocket.clients.answers import Asked, HistoryAnswer
from workers.websocket.clients.context import Context

# Of all records in an answer; the newest one is in it in any case.
MOST_BYTES: Final = 1024 * 1024


class Last(HistoryAnswer):
    """The newest `count` records, or as many of them as fit into MOST_BYTES."""

    __slots__ = ("_bytes", "_count", "_records")

    def __init__(self, context: Context, asked: Asked, count: int) -> None:
        super().__init__(context, asked)
        self._count = count
        self._records: deque[bytes] = deque()
        self._bytes = 0

    def take(self, lines: bytes) -> None:
        for line in lines.splitlines():
            if line.startswith(RECORD):
                self._records.append(line)
                self._bytes += len(line)
        while len(self._records) > self._count or (
            self._bytes > MOST_BYTES and len(self._records) > 1
        ):
            self._bytes -= len(self._records.popleft())

    def finish(self, position: str) -> None:
        stream = orjson.dumps(self.asked.stream)
        body = b'{"type":"last","stream":%b,"records":[%b],"position":"%b"}' % (
            stream,
            b",".join(self._records),
            position.encode(),
        )
        # This object stays until the client has read the answer.
        self._records.clear()
        fields = headers(position, self.asked.headers)
        if self.asked.subscribe.filters:
            # A cache does not know that another token may have other keys: it keeps nothing, and
            # there is no tag by which one client's answer could be good for another.
            fields["Cache-Control"] = "no-store"
            del fields["ETag"]
        self.respond(Response(200, body, fields))

    def hurry(self) -> None:
        """Go on: it takes a moment only."""


def tag(position: str) -> str:
    """The entity tag of the answer with this position."""
    return f'"{position}"'


def headers(position: str, further: Mapping[str, str]) -> dict[str, str]:
    """The headers of the answer with this position, and of a 304."""
    return {
        "Content-Type": "application/json",
        "Cache-Control": "no-cache",
        "ETag": tag(position),
        **further,
    }


def not_modified(position: str, further: Mapping[str, str]) -> Response:
    """The answer to a client that has everything before this position."""
    fields = headers(position, further)
    del fields["Content-Type"]
    return Response(304, None, fields)
