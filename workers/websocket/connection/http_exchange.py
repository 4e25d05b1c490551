"""The HTTP requests of one connection, one after the other, until one becomes a stream of data.

httptools (llhttp) parses header fields; `energyws.protocol.http.request` has the limits and rules.
"""

from __future__ import annotations

import re
import time
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

import httptools
from multidict import CIMultiDict

from energyws.errors import BAD_REQUEST
from energyws.protocol.http.request import BadRequest, Request, checked, head_size, parse_line
from energyws.protocol.http.response import Response
from workers.websocket.connection.answer import Answer
from workers.websocket.connection.stream import Stream
from workers.websocket.connection.upgrade import Upgrade

# A connection ends after this many; the client may open another.
MAX_REQUESTS: Final = 100
# Pipelined requests are answered up to this many bytes, and the next ones once these are read.
ANSWERS_BYTES: Final = 64 * 1024
_EMPTY_LINES: Final = re.compile(rb"\A(?:\r\n)+")


class Gate(Protocol):
    """Decides about requests."""

    def answer(self, request: Request, peer: str) -> Response | Answer | Upgrade | Stream:
        """The answer to a request; never raises."""

    def refuse(self, bad: BadRequest, peer: str) -> Response:
        """The answer to bytes that are no request."""

    @property
    def leaving(self) -> bool:
        """Whether each connection ends after its answer."""


class Then(Enum):
    """What happens to the connection next.

    WAIT: a request is incomplete. NEXT: what came was answered, and more may come. CLOSE: it ends,
    and everything that came was read. LINGER: it ends, but bytes that will be dropped are to come.
    MORE: more came, to be answered once the client has read these answers (`take` no bytes).
    ANSWER: its response takes time, and nothing is read meanwhile. TAKEN: a WebSocket or an event
    stream takes it.
    """

    WAIT = auto()
    NEXT = auto()
    CLOSE = auto()
    LINGER = auto()
    MORE = auto()
    ANSWER = auto()
    TAKEN = auto()


class Step(NamedTuple):
    """What to send, and what to do next.

    taker: what takes the connection, or answers. rest: the bytes that came after the request.
    closes: the connection ends after the answer.
    """

    out: bytes
    then: Then
    taker: Answer | Upgrade | Stream | None = None
    rest: bytes = b""
    closes: bool = False


class Exchange:
    """Parses the requests of one connection, and has the gate answer them."""

    __slots__ = ("_data", "_gate", "_left", "_unread", "peer")

    def __init__(self, gate: Gate, peer: str) -> None:
        self.peer = peer
        self._gate = gate
        self._data = b""
        self._left = MAX_REQUESTS
        self._unread = False

    @property
    def idle(self) -> bool:
        """Whether it is between two requests."""
        return self._left < MAX_REQUESTS and not self._data

    @property
    def leaves(self) -> bool:
        """Whether its connection ends now, since the worker is leaving: it waits for a request.

        The head of its last answer may have said otherwise.
        """
        return self.idle and self._gate.leaving

    def take(self, data: bytes) -> Step:
        """What to do after these bytes."""
        self._data += data
        out = b""
        while True:
            # RFC 9112 section 2.2: empty lines before a request are to be ignored. All of them, or
            # the answer would depend on how the network cuts them.
            data = self._data = _EMPTY_LINES.sub(b"", self._data, count=1)
            try:
                size = head_size(data)
                if size is None:
                    return Step(out, Then.NEXT if out else Then.WAIT)
                request = parse(data[:size])
            except BadRequest as bad:
                self._data = b""
                answer = self._gate.refuse(bad, self.peer)
                return Step(out + self._encoded(answer, True, False), Then.LINGER)
            rest = data[size:]
            self._data = b""
            answered = self._gate.answer(request, self.peer)
            if isinstance(answered, Upgrade | Stream):
                return Step(out, Then.TAKEN, answered, rest)
            self._left -= 1
            closes = not request.persists or not self._left or self._gate.leaving
            # Nobody knows how much of a body is still to come.
            self._unread = request.has_body
            self._data = rest
            if isinstance(answered, Answer):
                return Step(out, Then.ANSWER, answered, closes=closes)
            closes = closes or answered.is_error
            out += self._encoded(answered, closes, request.method == "HEAD")
            if closes:
                return self.last(out)
            if rest and len(out) > ANSWERS_BYTES:
                return Step(out, Then.MORE)

    def hold(self, data: bytes) -> None:
        """Keep bytes that came while a request is answered."""
        self._data += data

    def last(self, out: bytes = b"") -> Step:
        """The step after the last answer."""
        unread, self._data = self._unread or bool(self._data), b""
        return Step(out, Then.LINGER if unread else Then.CLOSE)

    @staticmethod
    def _encoded(answer: Response, closes: bool, head_only: bool) -> bytes:
        return answer.encode(now=time.time(), closes=closes, head_only=head_only)


class _Fields:
    """httptools' callbacks."""

    __slots__ = ("headers", "whole")

    def __init__(self) -> None:
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field, its value without leading blanks."""
        self.headers.add(name.decode("ascii"), value.decode("latin-1").rstrip(" \t"))

    def on_headers_complete(self) -> None:
        """The fields are complete."""
        self.whole = True


# Before the fields, in place of a request line that has been read already.
_LINE: Final = b"GET / HTTP/1.1"


def parse(head: bytes) -> Request:
    """A whole head; raises BadRequest."""
    method, path, query, minor = parse_line(head)
    fields = _Fields()
    parser = httptools.HttpRequestParser(fields)
    try:
        parser.feed_data(_LINE + head[head.index(b"\r\n") :])
    except httptools.HttpParserUpgrade:
        # To any protocol; whether it is ours is decided elsewhere.
        pass
    except httptools.HttpParserError as error:
        # Its messages are from a fixed list, and repeat nothing of the request.
        raise BadRequest(BAD_REQUEST, str(error)) from None
    if not fields.whole:
        raise BadRequest(BAD_REQUEST, "the header fields are none")
    return checked(Request(method, path, query, minor, fields.headers))
