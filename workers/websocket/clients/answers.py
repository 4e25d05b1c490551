"""What the answers that read history have in common: a subscription that ends where it is live."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from energyws.auth.verifier import Principal
from energyws.errors import (
    HISTORY_UNAVAILABLE,
    INTERNAL_ERROR,
    STREAM_UNAVAILABLE,
    TOO_MANY_REQUESTS,
    Close,
    ErrorCode,
)
from energyws.process.counters import HANDSHAKES
from energyws.protocol.forms import Form
from energyws.protocol.http.response import Response, refusal
from energyws.protocol.messages import Subscribe, Subscribed
from energyws.protocol.position import Position
from workers.runtime import crash_on_error
from workers.websocket.clients import session_log
from workers.websocket.clients.context import Context
from workers.websocket.clients.sinks import NOWHERE
from workers.websocket.connection.answer import Answer, Outlet
from workers.websocket.fanout.crowd import Sink

# Answers that may have a great many records, at once, of a worker; of one subject it is one.
MOST_AT_ONCE: Final = 4
# A client that reads so slowly holds its place among the few no longer.
MOST_SECONDS: Final = 60.0


def is_full(reading: Counter[str], subject: str) -> bool:
    """Whether no further request of this subject may be answered now. reading: as in Context."""
    return reading[subject] > 0 or reading.total() >= MOST_AT_ONCE


@dataclass(frozen=True, slots=True)
class Asked:
    """An admitted request. chunked: the client knows chunked bodies. headers: those of CORS.

    marks: as Shares has made them.
    """

    stream: str
    principal: Principal
    subscribe: Subscribe
    headers: Mapping[str, str]
    head_only: bool
    chunked: bool
    marks: int = 0


class HistoryAnswer(Answer):
    """The hub's EndingClient and the registry's Connection."""

    __slots__ = (
        "_closes",
        "_ended",
        "_outlet",
        "_timer",
        "asked",
        "closing",
        "context",
        "heard",
        "id",
        "principal",
        "reply",
        "sink",
        "writable",
    )

    form = Form.LINES

    def __init__(self, context: Context, asked: Asked) -> None:
        self.id = session_log.next_id()
        self.asked = asked
        self.context = context
        self.principal = asked.principal
        self.heard = True
        self.writable = True
        self.closing = False
        # It is never live.
        self.sink: Sink = NOWHERE
        # Where the subscription began; None before that.
        self.reply: Subscribed | None = None
        self._outlet: Outlet | None = None
        self._closes = False
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def subject(self) -> str:
        return self.principal.subject

    def take(self, lines: bytes) -> None:
        """The next records, one in each line."""
        raise NotImplementedError

    def finish(self, position: str) -> None:
        """The subscription has caught up: everything before `position` was taken."""
        raise NotImplementedError

    def hurry(self) -> None:
        """The worker is leaving, or time is up: end now if that is possible."""
        raise NotImplementedError

    def begin(self, outlet: Outlet, *, closes: bool) -> None:
        context = self.context
        self._outlet, self._closes = outlet, closes
        limit = context.settings.write_buffer_bytes
        outlet.set_write_buffer_limits(high=limit, low=limit // 4)
        context.shares.begin(self, self.asked.marks)
        context.connections.join(self, outlet.connection)
        self._timer = asyncio.get_running_loop().call_later(MOST_SECONDS, self._time_is_up)
        try:
            self.subscribe()
        except Exception:
            session_log.not_set_up(self)
            self.refuse(INTERNAL_ERROR)

    def subscribe(self) -> None:
        """Subscribe, or refuse."""
        if not self.context.hub.subscribe(self, self.asked.subscribe):
            # It would wait until the topic is found.
            self.refuse(STREAM_UNAVAILABLE)

    def lost(self) -> None:
        self.leave()
        self.sent()

    def sent(self) -> None:
        # Until now it cost a descriptor and its bytes, however slowly the client reads.
        self.context.shares.end(self.asked.marks)

    def pause_writing(self) -> None:
        self.writable = False
        self.context.hub.pause_writing(self)

    def resume_writing(self) -> None:
        self.writable = not self._ended
        self.context.hub.resume_writing(self)

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        (self.reply,) = streams.values()

    def write(self, data: bytes) -> None:
        """Hub: the next records."""
        if not self._ended:
            self.take(data)

    def scanned(self, position: Position) -> None:
        """Hub: a part of the log that may have had nothing for it is behind it."""

    def caught_up(self, position: Position) -> None:
        """Hub: the subscription is over."""
        # A last write may follow at once.
        asyncio.get_running_loop().call_soon(self._finish, str(position))

    def history_unavailable(self) -> None:
        self.refuse(HISTORY_UNAVAILABLE)

    def too_slow(self) -> None:
        """Hub: not with on_lag `skip`."""

    def lagging(self, stream: str) -> None:
        """Hub: not if it is never live."""

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        session_log.skipped(self, stream, frames, by_choice)

    def ping(self) -> None:
        """ConnectionRegistry: there is no room for one in a body."""

    def send_error(self, error: ErrorCode, detail: str = "") -> None:
        """ConnectionRegistry: the same."""

    def reconnect(self, after_ms: int, close: Close) -> None:
        if not self.closing:
            self.closing = True
            self.context.connections.closing(self)
            self.hurry()

    def close(self, close: Close) -> None:
        """ConnectionRegistry: its token has expired."""
        self.abort()

    def abort(self) -> None:
        """End the connection: the client sees that the body is cut."""
        if self._outlet is not None:
            self._outlet.abort()

    def refuse(self, error: ErrorCode) -> None:
        """Answer with an error, if the head is not out yet."""
        if self._ended:
            return
        HANDSHAKES.count(self.context.row, error.code.lower())
        self.respond(refusal(error, "", self.asked.headers), failed=True)

    def respond(self, response: Response, *, failed: bool = False) -> None:
        """Answer with a whole response."""
        now, head_only = time.time(), self.asked.head_only
        closes = self._closes or failed
        self.end(response.encode(now=now, closes=closes, head_only=head_only), failed=failed)

    def head(self, response: Response) -> bytes:
        """The head of a body that is yet to come."""
        return response.encode(now=time.time(), closes=self._closes, head_only=False)

    def send(self, data: bytes) -> None:
        """Write to the connection; may pause this answer."""
        if self._outlet is not None:
            self._outlet.write(data)

    def end(self, data: bytes, *, failed: bool = False) -> None:
        """Write the last bytes, and leave."""
        outlet = self._outlet
        assert outlet is not None
        self.leave()
        outlet.write(data)
        outlet.answered(failed=failed)

    @crash_on_error
    def _finish(self, position: str) -> None:
        if not self._ended:
            self.finish(position)

    @crash_on_error
    def _time_is_up(self) -> None:
        self.hurry()
        if not self._ended:
            self.abort()

    def leave(self) -> None:
        """Once, at the end of the answer or of its connection."""
        self._ended, self.writable, self.closing = True, False, True
        self._outlet = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.context.hub.leave(self)
        self.context.connections.leave(self)


class StreamedAnswer(HistoryAnswer):
    """An answer that goes out as fast as its client reads, and that nobody holds as a whole.

    fields: of its head. is_counted: whether it is one of MOST_AT_ONCE.
    """

    __slots__ = ("_fields", "_is_counted", "_started")

    def __init__(
        self, context: Context, asked: Asked, fields: Mapping[str, str], *, is_counted: bool
    ) -> None:
        super().__init__(context, asked)
        self._fields = fields
        self._is_counted = is_counted
        self._started = False

    def subscribe(self) -> None:
        # Requests that come in the same moment are all admitted before the first of them begins.
        reading = self.context.reading
        full = self._is_counted and is_full(reading, self.subject)
        reading[self.subject] += self._is_counted
        if full:
            self.refuse(TOO_MANY_REQUESTS)
        else:
            super().subscribe()

    def leave(self) -> None:
        reading = self.context.reading
        reading[self.subject] -= self._is_counted
        if not reading[self.subject]:
            del reading[self.subject]
        super().leave()

    def refuse(self, error: ErrorCode) -> None:
        if self._started:
            self.abort()
        else:
            super().refuse(error)

    def send_part(self, data: bytes) -> None:
        """Send a part of the body, not empty."""
        self.send(self._framed(data))

    def end_with(self, data: bytes) -> None:
        """Send the last part of the body, not empty, and leave."""
        framed = self._framed(data)
        self.end(framed + b"0\r\n\r\n" if self.asked.chunked else framed)

    def _framed(self, data: bytes) -> bytes:
        """A part of the body (RFC 9112 section 7.1), after the head if it is the first one."""
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self.asked.chunked else data
        if self._started:
            return framed
        self._started = True
        headers = {**self._fields, **self.asked.headers}
        if self.asked.chunked:
            headers["Transfer-Encoding"] = "chunked"
        return self.head(Response(200, None, headers)) + framed
