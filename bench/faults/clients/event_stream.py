"""Parses text/event-stream to the letter of the HTML standard, section 9.2.6. No I/O.

To the letter means: an event without an id has the last id *of its connection*, and none if it is
the first. Browsers keep the id of the connection before. So a service that is right for this parser
is right for every client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """type: "message" where the stream names none. id: the last event ID at this event."""

    type: str
    data: str
    id: str


class EventStream:
    """The parser of one connection.

    last_event_id: that of the client, from its earlier connections; each end of an event sets it.
    retry_ms: the newest reconnection time in the stream; None if it has none. ids: an id without
    data, which calls nobody in a browser, is an event without a type.
    """

    def __init__(self, last_event_id: str = "", *, ids: bool = False) -> None:
        self.last_event_id = last_event_id
        self._ids = ids
        self.retry_ms: int | None = None
        self._rest = b""
        self._after_cr = False
        self._began = False
        self._type = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete; one that the connection cuts off is lost."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = self._after_cr or data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and not self._began:
            self._began = True
            lines[0] = lines[0].removeprefix(_BOM)
        events = []
        for line in lines:
            if line:
                self._take(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        return events

    def _take(self, line: bytes) -> None:
        name, _, raw = line.partition(b":")
        value = raw.removeprefix(b" ").decode("utf-8", "replace")
        match name:
            case b"data":
                self._data.append(value)
            case b"id" if "\0" not in value:
                self._id = value
            case b"event":
                self._type = value
            case b"retry" if value.isascii() and value.isdigit():
                self.retry_ms = int(value)

    def _dispatch(self) -> Event | None:
        alone = self._ids and not self._data and self._id != self.last_event_id
        self.last_event_id = self._id
        if alone:
            return Event("", "", self._id)
        kind, self._type = self._type, ""
        data, self._data = self._data, []
        # A single empty data line is an event with a line break, which is then removed.
        return Event(kind or "message", "\n".join(data), self._id) if data else None
