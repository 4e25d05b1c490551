"""Server-Sent Events (WHATWG HTML, section 9.2), made from the messages of the WebSocket protocol.

    id: 7f3a90c2-1042.998.17
    data: {"type":"data","stream":"energy",…,"id":"7f3a90c2-1042.998.17"}
    (an empty line)

An `id` is the position that EventSource sends back as `Last-Event-ID`. A `position` message that
says nothing else is an `id` alone: EventSource keeps it, and calls nobody (section 9.2.6). Data
messages have no event name, so a page gets them in `onmessage`. An event is never named `error` or
`open`: EventSource would hand it to the handlers of its own events of that name.
"""

from __future__ import annotations

from typing import Final

import orjson

from energyws.protocol.frame import split
from energyws.protocol.json_lines import DATA, SNAPSHOT, one_line, position
from energyws.protocol.position import BadPosition, parse

# A comment: EventSource ignores it.
HEARTBEAT: Final = b":\n\n"
_BARE: Final = {"type", "stream", "id"}
_NAMES: Final = {"error": b"problem"}


def encode(frames: bytes) -> bytes:
    """The events of these whole, uncompressed frames."""
    return b"".join(_event(payload) for _, payload in split(frames))


def begin(retry_ms: int, last_event_id: str) -> bytes:
    """The first lines of a stream: how long EventSource waits before it connects again.

    last_event_id: the client's; it gets it back if it is a position. To the letter of the standard
    (section 9.2.6), the events of a connection before its first `id` clear what the client has from
    the connection before, so that a client that is refused would come back without a position.
    """
    try:
        place = b"id: %b\n" % str(parse(last_event_id)).encode()
    except BadPosition:
        place = b""
    return b"retry: %d\n%b\n" % (retry_ms, place)


def problem(body: bytes) -> bytes:
    """The event of an `error` message."""
    return b"event: problem\ndata: %b\n\n" % body


def _event(payload: bytes) -> bytes:
    if payload.startswith(DATA):
        return b"id: %b\ndata: %b\n\n" % (position(payload), one_line(payload))
    if payload.startswith(SNAPSHOT):
        return b"event: snapshot\ndata: %b\n\n" % one_line(payload)
    message = orjson.loads(payload)
    kind = message["type"]
    if kind == "position" and message.keys() == _BARE:
        return b"id: %b\n\n" % message["id"].encode()
    lines = [b"event: " + _NAMES.get(kind, kind.encode())]
    match kind:
        case "subscribed" if "snapshots" not in message:
            # One stream per connection. A client that loses it amid a snapshot has to begin anew.
            (place,) = message["positions"].values()
            lines.append(b"id: " + place["position"].encode())
        case "removed" | "position":
            lines.append(b"id: " + message["id"].encode())
        case "lagged":
            lines.append(b"id: " + message["to"].encode())
        case "reconnect":
            lines.insert(0, b"retry: %d" % message["after_ms"])
    return b"\n".join([*lines, b"data: " + payload, b"", b""])
