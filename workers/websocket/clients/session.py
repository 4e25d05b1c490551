"""One connection: strict about the protocol, patient with the client.

While a client does not read, its transport pauses us and we stop reading from it in turn: whatever
it sends meanwhile costs it, not us (picows' automatic pongs would ignore the write buffer). There
is no task, timer or closure per connection: the connection registry keeps the time.
"""

from __future__ import annotations

import math
import time
from typing import Final, cast

import aiofastnet
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from energyws.auth.verifier import Principal
from energyws.errors import (
    HISTORY_UNAVAILABLE,
    INTERNAL,
    NORMAL,
    RATE_LIMITED,
    SLOW,
    Close,
    ErrorCode,
)
from energyws.process.counters import CLOSED
from energyws.protocol import frame, messages
from energyws.protocol.assembler import Assembler
from energyws.protocol.deflate import takes_over
from energyws.protocol.forms import Form
from energyws.protocol.frame_scanner import Violation
from energyws.protocol.messages import BadClientMessage, ClientMessage, Subscribe, Subscribed
from workers.websocket.clients import session_log
from workers.websocket.clients.commands import carry_out
from workers.websocket.clients.context import Context
from workers.websocket.clients.session_state import Event, State, after
from workers.websocket.clients.sinks import NOWHERE, Gathered
from workers.websocket.connection import framing, upgrade
from workers.websocket.fanout.crowd import Sink, is_backlogged

# How many seconds' worth of messages may come at once.
BURST_SECONDS: Final = 2.0

_PING: Final = frame.encode(frame.PING, b"")


class Session(WSListener):
    """A client that the gate admitted: the hub's FanoutClient and the registry's Connection.

    writable follows from the state; fan-out reads it, so it is a plain attribute. marks: as Shares
    has made them.
    """

    __slots__ = (
        "_assembler",
        "_busy_until",
        "_by",
        "_code",
        "_context",
        "_first",
        "_marks",
        "_peer",
        "_state",
        "_takeover",
        "_transport",
        "form",
        "heard",
        "id",
        "principal",
        "sink",
        "writable",
    )

    def __init__(
        self,
        context: Context,
        principal: Principal,
        peer: str,
        first: Subscribe | BadClientMessage | None,
        extension: str | None,
        marks: int = 0,
    ) -> None:
        self.id = session_log.next_id()
        self.principal = principal
        self.form = Form.PLAIN if extension is None else Form.DEFLATE
        self._takeover = takes_over(extension)
        self._state = State.NEW
        self.writable = False
        self.heard = True
        self.sink: Sink = NOWHERE
        self._context = context
        self._marks = marks
        self._first = first
        self._peer = peer
        self._transport: WSTransport | None = None
        # Exists while a message in fragments is incomplete, and once the client has compressed one.
        self._assembler: Assembler | None = None
        self._busy_until = -math.inf
        # The side and the code to report for its end: 1006 while no closing handshake has begun.
        self._by, self._code = "client", 1006

    @property
    def closing(self) -> bool:
        """Whether the closing handshake has begun, or the connection is gone."""
        return self._state in (State.CLOSING, State.CLOSED)

    @property
    def paused(self) -> bool:
        """Framing: whether the client does not read, and so is not read from."""
        return self._state is State.PAUSED

    def on_ws_connected(self, transport: WSTransport) -> None:
        """picows: the connection is a WebSocket; the 101 is ours to write."""
        self._transport = transport
        self._on(Event.UPGRADED)
        self._context.shares.begin(self, self._marks)
        try:
            self._open(transport)
        except Exception:
            session_log.not_set_up(self)
            self.close(INTERNAL)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """picows: the connection has ended."""
        # First, and whatever follows: its descriptor is closed next, and given to another client.
        self._context.hub.leave(self)
        if not self.closing:
            CLOSED.count(self._context.row, self._by, str(self._code))
        self._on(Event.LOST)
        self._context.connections.lost(self)
        self._context.shares.end(self._marks)
        # The transport refers to us, too: without this they wait together for the collector, which
        # rarely runs in a process that allocates little.
        self._transport = None
        session_log.disconnected(self, self._code, self._by)

    def on_ws_frame(self, transport: WSTransport, received: WSFrame) -> None:
        """picows: one frame, unmasked, within the size limit."""
        if transport.is_close_frame_sent:
            self._after_close(transport, received)
            return
        self.heard = True
        try:
            if _counts(received) and (not self._within_rate() or self._exceeds()):
                self.send_error(RATE_LIMITED)
                self.close(RATE_LIMITED.close or NORMAL)
            else:
                self._receive(received)
        except Violation as violation:
            self.violated(violation.close)
        except Exception:
            session_log.not_handled(self)
            self.close(INTERNAL)

    def pause_writing(self) -> None:
        """picows: the client does not read as fast as we write."""
        if self._on(Event.PAUSE) and self._transport is not None:
            self._context.hub.pause_writing(self)
            self._transport.underlying_transport.pause_reading()

    def resume_writing(self) -> None:
        """picows: the write buffer has room again."""
        if self._on(Event.RESUME) and self._transport is not None:
            # It reads: a pong behind a long backlog may take its time.
            self.heard = True
            self._transport.underlying_transport.resume_reading()
            self._context.hub.resume_writing(self)

    @property
    def subject(self) -> str:
        return self.principal.subject

    def write(self, data: bytes) -> None:
        """Send bytes as they are; they are dropped once it closes."""
        self.sink.write_nocheck(data)
        if is_backlogged(self.sink):
            self._context.hub.backlogged(self)

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        self.write(messages.subscribed(streams))
        session_log.subscribed(self, streams)

    def lagging(self, stream: str) -> None:
        session_log.lagging(self, stream)

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        session_log.skipped(self, stream, frames, by_choice)

    def too_slow(self) -> None:
        self.close(SLOW)

    def history_unavailable(self) -> None:
        self.send_error(HISTORY_UNAVAILABLE)
        self.close(HISTORY_UNAVAILABLE.close or INTERNAL)

    def ping(self) -> None:
        """ConnectionRegistry: send a ping, unless the client is not reading."""
        if self.writable:
            self.heard = False
            self.write(_PING)

    def send_error(self, error: ErrorCode, detail: str = "") -> None:
        self.write(messages.error(error, detail))

    def reconnect(self, after_ms: int, close: Close) -> None:
        if not self.closing:
            self._context.hub.dismiss(self)
            self.write(messages.reconnect(after_ms))
            self.close(close)

    def close(self, close: Close, by: str = "server") -> None:
        """Begin the closing handshake (RFC 6455 section 7); the registry ends it in any case.

        by: which side began it, "server" or "client".
        """
        if by == "server" and not self.closing:
            self._context.hub.dismiss(self)
        gathered = self.sink
        if not self._on(Event.CLOSE):
            return
        transport = self._transport
        assert transport is not None
        if isinstance(gathered, Gathered):
            # Its first request closes it: the 101 and the reason go before the close frame.
            transport.underlying_transport.write(gathered.take())
        self._context.hub.leave(self)
        # What it sent before it could see our close frame does not count against its rate.
        self._busy_until = -math.inf
        self._by, self._code = by, close.code
        CLOSED.count(self._context.row, by, str(close.code))
        self._context.connections.closing(self)
        upgrade.send_close(transport, close)
        # We do not read from a paused client, and would miss its close frame.
        transport.underlying_transport.resume_reading()

    def violated(self, close: Close) -> None:
        """Framing: the client has violated the protocol."""
        self.close(close)
        if self._transport is not None:
            framing.of(self._transport).fail()

    def abort(self) -> None:
        """ConnectionRegistry: its client has used up its time."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def _on(self, event: Event) -> bool:
        """Follow the table; False: the event has no effect. Raises IllegalEvent."""
        before = self._state
        self._state = state = after(before, event)
        self.writable = state is State.OPENING or state is State.OPEN
        if state is State.CLOSING or state is State.CLOSED:
            # No data frame may follow the close frame (RFC 6455 section 5.5.1).
            self.sink = NOWHERE
        return state is not before

    def _after_close(self, transport: WSTransport, received: WSFrame) -> None:
        """A frame behind our close frame: only the client's own close frame matters."""
        if received.msg_type == WSMsgType.CLOSE:
            framing.of(transport).end()
        elif _counts(received) and not self._within_rate():
            framing.of(transport).drop()

    def _open(self, transport: WSTransport) -> None:
        """Send the 101, and the answer to the request in its URL, in one write."""
        upgrade.forget(transport.request)
        under = cast(aiofastnet.Transport, transport.underlying_transport)
        limit = self._context.settings.write_buffer_bytes
        under.set_write_buffer_limits(high=limit, low=limit // 4)
        self.sink = gathered = Gathered()
        gathered.write_nocheck(upgrade.head(transport))
        try:
            self._begin()
        finally:
            if not self.closing:
                self.sink = under
                self._on(Event.OPENED)
                # Last: it may pause us.
                self.write(gathered.take())

    def _begin(self) -> None:
        assert self._transport is not None
        self._context.connections.join(self, framing.of(self._transport).connection)
        session_log.connected(self, self._peer)
        first, self._first, self._peer = self._first, None, ""
        if isinstance(first, BadClientMessage):
            self.send_error(first.error, first.detail)
        elif first is not None:
            self._carry_out(first)

    def _receive(self, received: WSFrame) -> None:
        kind = received.msg_type
        if kind == WSMsgType.PONG:
            return
        if kind == WSMsgType.PING:
            self.write(frame.encode(frame.PONG, received.get_payload_as_bytes()))
        elif kind == WSMsgType.CLOSE:
            self._on_close(received)
        else:
            assembler = self._assembler or Assembler(
                self._context.settings.max_message_bytes, self._takeover
            )
            payload = assembler.feed(
                kind.value,
                bool(received.fin),
                received.get_payload_as_bytes(),
                bool(received.rsv1),
            )
            self._assembler = assembler if assembler.has_state else None
            if payload is not None:
                self._on_message(payload)

    def _on_close(self, received: WSFrame) -> None:
        assert self._transport is not None
        code = received.get_close_code().value if received.payload_size else NORMAL.code
        self.close(Close(code, "", False), by="client")
        framing.of(self._transport).end()

    def _on_message(self, payload: bytes) -> None:
        try:
            self._carry_out(messages.parse(payload))
        except BadClientMessage as bad:
            self.send_error(bad.error, bad.detail)

    def _carry_out(self, message: ClientMessage) -> None:
        try:
            carry_out(message, self, self._context)
        except BadClientMessage as bad:
            self.send_error(bad.error, bad.detail)

    def _within_rate(self) -> bool:
        """A leaky bucket that keeps one number: when the frames so far will be paid for."""
        now = time.monotonic()
        cost = 1 / self._context.settings.messages_per_second
        self._busy_until = max(self._busy_until, now) + cost
        return self._busy_until - now <= BURST_SECONDS

    def _exceeds(self) -> bool:
        """Whether the clients of its subject send too much together."""
        limit = self._context.shares.may_send(self.principal.subject)
        if limit is not None:
            session_log.limited(self, limit)
        return limit is not None


def _counts(received: WSFrame) -> bool:
    """Whether a frame counts against rates: a close frame is the last one in any case."""
    return received.msg_type != WSMsgType.CLOSE and not framing.continues(received)
