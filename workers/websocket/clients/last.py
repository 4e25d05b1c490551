"""The answers to `GET /last/<stream>`, as one JSON object each.

The newest records, or the newest record of each key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

import orjson

from energyws.errors import HISTORY_UNAVAILABLE
from energyws.protocol.http.response import Response
from energyws.protocol.json_lines import RECORD, SNAPSHOT
from workers.websocket.clients.answers import Asked, HistoryAnswer, StreamedAnswer
from workers.websocket.clients.context import Context
from workers.websocket.snapshots.client import has_scan

# Of all records in an answer; the newest one is in it in any case.
MOST_BYTES: Final = 1024 * 1024


# A cache does not know that another token may have other keys: it keeps nothing.
SNAPSHOT_HEADERS: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_POSITION: Final = b'{"type":"position",'


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


class LastSnapshot(StreamedAnswer):
    """The newest record of each key that the client has.

    Where they are read in steps, what has changed meanwhile follows. An answer that is no whole
    object was cut.
    """

    __slots__ = ("_had", "_has_records", "_is_begun", "_scans")

    def __init__(self, context: Context, asked: Asked) -> None:
        self._scans = has_scan(asked.subscribe.filters.get(asked.stream))
        super().__init__(context, asked, SNAPSHOT_HEADERS, is_counted=self._scans)
        self._is_begun = self._has_records = False
        self._had: object = None

    def take(self, lines: bytes) -> None:
        records: list[bytes] = []
        position: str | None = None
        for line in lines.splitlines():
            if line.startswith((SNAPSHOT, *RECORD)):
                records.append(line)
            elif line.startswith(_POSITION):
                message = orjson.loads(line)
                position, self._had = message["id"], message.get("snapshot")
                if not self._scans:
                    break
            else:
                # Records are missing.
                self.abort()
                return
        if position is not None and not self._scans:
            self.end_with(self._listed(records) + self._tail(position))
        elif records:
            self.send_part(self._listed(records))

    def finish(self, position: str) -> None:
        self.end_with(self._listed([]) + self._tail(position))

    def hurry(self) -> None:
        """Nothing can take the place of the rest."""
        if self.reply is None:
            self.refuse(HISTORY_UNAVAILABLE)

    def _listed(self, records: list[bytes]) -> bytes:
        """The next records of the list, after its beginning if these are the first."""
        head = b""
        if not self._is_begun:
            self._is_begun = True
            head = b'{"type":"last","stream":%b,"records":[' % orjson.dumps(self.asked.stream)
        elif self._has_records and records:
            head = b","
        self._has_records = self._has_records or bool(records)
        return head + b",".join(records)

    def _tail(self, position: str) -> bytes:
        assert self.reply is not None
        assert self.reply.snapshot is not None
        told = self._had or self.reply.snapshot.as_json(self.reply.position)
        return b'],"position":"%b","snapshot":%b}' % (position.encode(), orjson.dumps(told))


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
