"""One client with Server-Sent Events: the same subscription as that of a session, one way.

Nothing is written before the subscription has begun, or its refusal is known: EventSource takes a
refusal for final unless it is an event, other clients unless it is a status.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import aiofastnet

from energyws.auth.verifier import Principal
from energyws.errors import (
    HISTORY_UNAVAILABLE,
    INTERNAL,
    INTERNAL_ERROR,
    SLOW,
    STREAM_UNAVAILABLE,
    Close,
    ErrorCode,
)
from energyws.process.board import Field
from energyws.process.counters import CLOSED, HANDSHAKES
from energyws.protocol import event_stream, messages
from energyws.protocol.event_stream import HEARTBEAT
from energyws.protocol.forms import Form
from energyws.protocol.http.response import EVENT_STREAM, Response, event_refusal, refusal
from energyws.protocol.messages import Subscribe, Subscribed
from workers.websocket.clients import session_log
from workers.websocket.clients.context import Context
from workers.websocket.clients.session_state import Event, State, after
from workers.websocket.clients.sinks import NOWHERE
from workers.websocket.connection.stream import Stream
from workers.websocket.fanout.crowd import Sink, is_backlogged

# How long EventSource waits after a connection has ended without an event that says so: at random,
# or the clients of a worker that died would all return in the same moment.
RETRY_MS: Final = (1_000, 3_000)
# As from the client: it ended the connection, or the connection broke.
_GOING_AWAY: Final = 1001
_BROKEN: Final = 1006


class EventStream(Stream):
    """The hub's FanoutClient and the registry's Connection.

    headers: those that the response has beside its own. as_events: a temporary refusal is an event.
    last_event_id: as the client sent it. marks: as Shares has made them.
    """

    __slots__ = (
        "_as_events",
        "_by",
        "_code",
        "_context",
        "_headers",
        "_last_event_id",
        "_marks",
        "_peer",
        "_request",
        "_started",
        "_state",
        "heard",
        "id",
        "principal",
        "sink",
        "writable",
    )

    form = Form.SSE

    def __init__(
        self,
        context: Context,
        principal: Principal,
        peer: str,
        request: Subscribe,
        headers: Mapping[str, str],
        *,
        as_events: bool,
        last_event_id: str = "",
        marks: int = 0,
    ) -> None:
        super().__init__()
        self.id = session_log.next_id()
        self.principal = principal
        self.writable = False
        # Nobody answers a comment; the registry sees whether a client acknowledges what it is sent.
        self.heard = True
        self.sink: Sink = NOWHERE
        self._context = context
        self._marks = marks
        self._peer = peer
        self._request: Subscribe | None = request
        self._headers = headers
        self._as_events = as_events
        self._last_event_id = last_event_id
        self._started = False
        self._state = State.NEW
        self._by, self._code = "client", _BROKEN

    @property
    def closing(self) -> bool:
        """Whether its end has begun, or the connection is gone."""
        return self._state in (State.CLOSING, State.CLOSED)

    @property
    def subject(self) -> str:
        return self.principal.subject

    def begin(self, rest: bytes) -> None:
        transport, request = self.transport, self._request
        if transport is None or request is None:
            # It has ended already.
            return
        self._request = None
        self._enter(transport)
        try:
            if not self._context.hub.subscribe(self, request):
                self.send_error(STREAM_UNAVAILABLE)
        except Exception:
            session_log.not_set_up(self)
            self._refuse(INTERNAL_ERROR)
            self.close(INTERNAL)

    def left(self) -> None:
        if self._state is not State.NEW:
            self._closes("client", _GOING_AWAY)

    def lost(self) -> None:
        if self._state is State.NEW:
            return
        # First, and whatever follows: its descriptor is closed next, and given to another client.
        self._context.hub.leave(self)
        if not self.closing:
            CLOSED.count(self._context.row, self._by, str(self._code))
        self._on(Event.LOST)
        self._context.connections.lost(self)
        self._context.shares.end(self._marks)
        self._context.row.add(Field.EVENT_STREAMS, -1)
        session_log.stream_ended(self, self._code, self._by)

    def pause_writing(self) -> None:
        """asyncio: the client does not read as fast as we write."""
        if self._on(Event.PAUSE):
            self._context.hub.pause_writing(self)

    def resume_writing(self) -> None:
        """asyncio: the write buffer has room again."""
        if self._on(Event.RESUME):
            self._context.hub.resume_writing(self)

    def write(self, data: bytes) -> None:
        """Send events as they are; they are dropped once it closes."""
        self.sink.write_nocheck(data)
        if is_backlogged(self.sink):
            self._context.hub.backlogged(self)

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        self._say(messages.subscribed(streams))
        session_log.subscribed(self, streams)

    def lagging(self, stream: str) -> None:
        session_log.lagging(self, stream)

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        session_log.skipped(self, stream, frames, by_choice)

    def too_slow(self) -> None:
        self.close(SLOW)

    def history_unavailable(self) -> None:
        if self._started:
            self.send_error(HISTORY_UNAVAILABLE)
        else:
            self._refuse(HISTORY_UNAVAILABLE)
        self.close(HISTORY_UNAVAILABLE.close or INTERNAL)

    def ping(self) -> None:
        """ConnectionRegistry: proxies end a connection on which nothing comes for a while."""
        if self.writable and self._started:
            self.write(HEARTBEAT)

    def send_error(self, error: ErrorCode, detail: str = "") -> None:
        self._say(messages.error(error, detail))

    def reconnect(self, after_ms: int, close: Close) -> None:
        if not self.closing:
            self._context.hub.dismiss(self)
            self._say(messages.reconnect(after_ms))
            self.close(close)

    def close(self, close: Close) -> None:
        """End the body; the registry ends the connection in any case."""
        if self._closes("server", close.code):
            self.end()

    def _enter(self, transport: aiofastnet.Transport) -> None:
        context = self._context
        context.shares.begin(self, self._marks)
        context.row.add(Field.EVENT_STREAMS)
        self._on(Event.UPGRADED)
        self._on(Event.OPENED)
        limit = context.settings.write_buffer_bytes
        transport.set_write_buffer_limits(high=limit, low=limit // 4)
        self.sink = transport
        context.connections.join(self, self.connection)
        session_log.stream_began(self, self._peer)
        self._peer = ""

    def _say(self, frame: bytes) -> None:
        """Send a message of the WebSocket protocol as an event, and before the first one the head.

        In one write: each wakes the client.
        """
        data = event_stream.encode(frame)
        if not self._started:
            self._started = True
            head = Response(200, None, {**EVENT_STREAM, **self._headers})
            begin = event_stream.begin(random.randint(*RETRY_MS), self._last_event_id)
            self._headers, self._last_event_id = {}, ""
            data = head.encode(now=time.time(), closes=True, head_only=False) + begin + data
        self.write(data)

    def _refuse(self, error: ErrorCode) -> None:
        if self._started:
            return
        self._started = True
        HANDSHAKES.count(self._context.row, error.code.lower())
        if self._as_events and error.status == HTTPStatus.SERVICE_UNAVAILABLE:
            response = event_refusal(error, "", self._headers, self._last_event_id)
        else:
            response = refusal(error, "", self._headers)
        self.write(response.encode(now=time.time(), closes=True, head_only=False))

    def _closes(self, by: str, code: int) -> bool:
        """Whether this is what ends it: the first reason counts."""
        if by == "server" and not self.closing:
            self._context.hub.dismiss(self)
        if not self._on(Event.CLOSE):
            return False
        self._context.hub.leave(self)
        self._by, self._code = by, code
        CLOSED.count(self._context.row, by, str(code))
        self._context.connections.closing(self)
        return True

    def _on(self, event: Event) -> bool:
        """Follow the table of sessions; False: the event has no effect. Raises IllegalEvent."""
        before = self._state
        self._state = state = after(before, event)
        self.writable = state is State.OPEN
        if state is State.CLOSING or state is State.CLOSED:
            self.sink = NOWHERE
        return state is not before
