"""One connection: strict about the protocol, patient with the client.

While a client does not read, its transport pauses us and we stop reading it in turn, so that
whatever it sends without reading costs it, not us (F1 of picows' defaults: automatic pongs ignore
the write buffer). No task, timer or closure per connection: the roster keeps the time.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass
from typing import Final, cast

import aiofastnet
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from energyws.auth.claims import TokenRefused
from energyws.auth.verifier import Principal
from energyws.errors import (
    BAD_MESSAGE,
    FORBIDDEN_STREAM,
    HISTORY_UNAVAILABLE,
    INTERNAL,
    NORMAL,
    RATE_LIMITED,
    SLOW,
    STREAM_UNAVAILABLE,
    UNAUTHORIZED,
    UNKNOWN_STREAM,
    Close,
    ErrorCode,
)
from energyws.process.board import Field, Row
from energyws.process.counters import CLOSED
from energyws.protocol import frame, messages
from energyws.protocol.assembler import Assembler, Violation, check_reserved, reply_code
from energyws.protocol.deflate import takes_over
from energyws.protocol.messages import (
    BadClientMessage,
    ClientMessage,
    Ping,
    Renew,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from energyws.settings import Server
from workers.websocket.auth.tokens import Tokens
from workers.websocket.clients import session_log
from workers.websocket.clients.connections import ConnectionRegistry
from workers.websocket.connection import framing, upgrade
from workers.websocket.fanout.batch import Sink
from workers.websocket.fanout.hub import Hub

# How many seconds' worth of messages may come at once.
BURST_SECONDS: Final = 2.0

_ids = itertools.count(1)


@dataclass(slots=True)
class Context:
    """What all sessions of a worker share. settings is replaced at a reload."""

    settings: Server
    hub: Hub
    roster: ConnectionRegistry
    tokens: Tokens
    row: Row


class Session(WSListener):
    """A client that was let in. Implements the hub's Client and the roster's Member."""

    __slots__ = (
        "_assembler",
        "_busy_until",
        "_by",
        "_code",
        "_context",
        "_first",
        "_peer",
        "_takeover",
        "_transport",
        "closing",
        "compressed",
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
    ) -> None:
        self.id = next(_ids)
        self.principal = principal
        self.compressed = extension is not None
        self._takeover = takes_over(extension)
        self.writable = False
        self.closing = False
        self.heard = True
        self.sink: Sink = _NOWHERE
        self._context = context
        self._first = first
        self._peer = peer
        self._transport: WSTransport | None = None
        # While a message in fragments is under way, and once it has compressed one.
        self._assembler: Assembler | None = None
        self._busy_until = -math.inf
        # How it ends: without a closing handshake, unless `close` says otherwise.
        self._by, self._code = "client", 1006

    def on_ws_connected(self, transport: WSTransport) -> None:
        """picows: the 101 is on its way."""
        self._transport = transport
        self._context.row.add(Field.CONNECTIONS)
        try:
            self._enter(transport)
        except Exception:
            session_log.not_set_up(self)
            self.close(INTERNAL)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """picows: the connection is gone, whoever ended it."""
        if not self.closing:
            CLOSED.count(self._context.row, self._by, str(self._code))
        self.writable = False
        self.closing = True
        self._context.hub.leave(self)
        self._context.roster.leave(self)
        self._context.row.add(Field.CONNECTIONS, -1)
        # The transport knows us, too: without this they wait together for the collector, which
        # comes seldom to a process that allocates little.
        self._transport = None
        self.sink = _NOWHERE
        session_log.disconnected(self, self._code, self._by)

    def on_ws_frame(self, transport: WSTransport, received: WSFrame) -> None:
        """picows: one frame, unmasked, within the size limit."""
        if transport.is_close_frame_sent:
            self._after_close(transport, received)
            return
        self.heard = True
        try:
            check_reserved(
                received.msg_type.value,
                received.rsv1,
                received.rsv2,
                received.rsv3,
                self.compressed,
            )
            if not self._within_rate():
                self.say(RATE_LIMITED)
                self.close(RATE_LIMITED.close or NORMAL)
            else:
                self._receive(received)
        except Violation as violation:
            self.close(violation.close)
        except Exception:
            session_log.not_handled(self)
            self.close(INTERNAL)

    def pause_writing(self) -> None:
        """picows: the client does not read as fast as it is sent to."""
        self.writable = False
        if not self.closing and self._transport is not None:
            self._context.hub.pause_writing(self)
            self._transport.underlying_transport.pause_reading()

    def resume_writing(self) -> None:
        """picows: there is room again."""
        if not self.closing and self._transport is not None:
            self.writable = True
            # It takes what it is sent: a pong behind a long backlog may take its time.
            self.heard = True
            self._transport.underlying_transport.resume_reading()
            self._context.hub.resume_writing(self)

    @property
    def subject(self) -> str:
        """Hub: whose it is."""
        return self.principal.subject

    def write(self, data: bytes) -> None:
        """Send bytes as they are; once the connection is gone, to nobody."""
        self.sink.write_nocheck(data)

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        """Hub: where the subscriptions begin."""
        self.write(messages.subscribed(streams))
        for name, told in streams.items():
            if told.recovered is not None:
                session_log.resumes(self, name, told)

    def lags(self, stream: str) -> None:
        """Hub: it does not take frames as fast as they come."""
        session_log.lags(self, stream)

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        """Hub: so many frames are not sent to it, because it is too slow."""
        session_log.skips(self, stream, frames, by_choice)

    def too_slow(self) -> None:
        """Hub: it asked to be disconnected when it falls off the ring."""
        self.close(SLOW)

    def unavailable(self) -> None:
        """Hub: what it asked back cannot be read at present."""
        self.say(HISTORY_UNAVAILABLE)
        self.close(HISTORY_UNAVAILABLE.close or INTERNAL)

    def ping(self) -> None:
        """ConnectionRegistry: nothing was heard for a while."""
        if self.writable:
            self.heard = False
            self.write(_PING)

    def say(self, error: ErrorCode, detail: str = "") -> None:
        """Send an `error`, or the `notice` that this code is."""
        self.write(messages.error(error, detail))

    def reconnect(self, after_ms: int, close: Close) -> None:
        """Ask the client to come back after a while, and close."""
        if not self.closing:
            self.write(messages.reconnect(after_ms))
            self.close(close)

    def close(self, close: Close, by: str = "server") -> None:
        """Begin the closing handshake (RFC 6455 section 7); the roster ends it in any case.

        by: who wants it so: server or client.
        """
        transport = self._transport
        if self.closing or transport is None:
            return
        if isinstance(self.sink, _Gathered):
            # Closed by what it was told first: the 101 and that go before the close frame.
            self._flush(self.sink)
        self._ends(by, close.code)
        upgrade.send_close(transport, close)
        # A paused client could not tell us that it closes too.
        transport.underlying_transport.resume_reading()

    def failed(self) -> None:
        """Framing: picows found a violation, and has sent the close frame for it."""
        transport = self._transport
        if not self.closing and transport is not None:
            sent = transport.close_handshake.sent
            self._ends("server", INTERNAL.code if sent is None else sent.code.value)

    def abort(self) -> None:
        """ConnectionRegistry: the closing handshake took too long."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def _ends(self, by: str, code: int) -> None:
        self.closing = True
        self.writable = False
        # No data frame may follow the close frame (RFC 6455 section 5.5.1), whoever has one.
        self.sink = _NOWHERE
        self._context.hub.leave(self)
        # What it had sent before it could know is no flood.
        self._busy_until = -math.inf
        self._by, self._code = by, code
        CLOSED.count(self._context.row, by, str(code))
        self._context.roster.closing(self)

    def _after_close(self, transport: WSTransport, received: WSFrame) -> None:
        """Only the client's own close frame matters; nobody waits long for it."""
        # Frames that stand before what picows found wrong come after its close frame.
        self.failed()
        if received.msg_type == WSMsgType.CLOSE:
            framing.end(transport)
        elif not self._within_rate():
            framing.drop(transport)

    def _enter(self, transport: WSTransport) -> None:
        upgrade.forget(transport.request)
        under = cast(aiofastnet.Transport, transport.underlying_transport)
        limit = self._context.settings.write_buffer_bytes
        under.set_write_buffer_limits(high=limit, low=limit // 4)
        gathered = _Gathered()
        gathered.write_nocheck(upgrade.head(transport))
        self.sink = gathered
        self.writable = True
        try:
            self._begin()
        finally:
            self._flush(gathered)
            if not self.closing:
                self.sink = under

    def _flush(self, gathered: _Gathered) -> None:
        assert self._transport is not None
        if gathered.pieces:
            self._transport.underlying_transport.write(b"".join(gathered.pieces))
            gathered.pieces.clear()

    def _begin(self) -> None:
        self._context.roster.join(self)
        session_log.connected(self, self._peer)
        first, self._first, self._peer = self._first, None, ""
        if isinstance(first, BadClientMessage):
            self.say(first.error, first.detail)
        elif first is not None:
            self._obey(first)

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
        transport = self._transport
        assert transport is not None
        try:
            code = reply_code(received.payload_size, received.get_close_code().value)
            self.close(Close(code, "", False), by="client")
        except Violation as violation:
            self.close(violation.close)
        framing.end(transport)

    def _on_message(self, payload: bytes) -> None:
        try:
            self._obey(messages.parse(payload))
        except BadClientMessage as bad:
            self.say(bad.error, bad.detail)

    def _obey(self, message: ClientMessage) -> None:
        hub = self._context.hub
        match message:
            case Ping():
                self.write(messages.pong(time.time_ns() // 1_000_000))
            case Subscribe():
                if self._may_have(message.streams) and not hub.subscribe(self, message):
                    self.say(STREAM_UNAVAILABLE)
            case Unsubscribe():
                if self._may_have(message.streams):
                    hub.unsubscribe(self, message.streams)
                    self.write(messages.unsubscribed(message.streams))
            case Renew():
                self._renew(message)

    def _may_have(self, streams: tuple[str, ...]) -> bool:
        for name in streams:
            if name not in self._context.hub.streams:
                known = ", ".join(sorted(self._context.hub.streams))
                self.say(UNKNOWN_STREAM, f"{name[:64]!r}; known are {known}")
                return False
            if not self.principal.may_read(name):
                self.say(FORBIDDEN_STREAM, repr(name))
                return False
        return True

    def _renew(self, message: Renew) -> None:
        context = self._context
        try:
            principal = context.tokens.check(message.token)
        except TokenRefused as refused:
            # Whatever it is, the token that the connection has goes on.
            self.say(refused.error)
            return
        if principal.subject != self.principal.subject:
            self.say(UNAUTHORIZED, "the fresh token is another subject's")
            return
        if principal.streams != self.principal.streams:
            self.say(BAD_MESSAGE, "the fresh token allows other streams: reconnect with it")
            return
        self.principal = principal
        context.roster.expires(self)
        self.write(messages.authenticated(int(principal.expires_at * 1000)))

    def _within_rate(self) -> bool:
        """A leaky bucket that keeps one number: until when the messages so far may take."""
        now = time.monotonic()
        took = 1 / self._context.settings.messages_per_second
        self._busy_until = max(self._busy_until, now) + took
        return self._busy_until - now <= BURST_SECONDS


_PING: Final = frame.encode(frame.PING, b"")


class _Nowhere:
    """Where a session writes while it has no transport."""

    def write_nocheck(self, data: bytes) -> None:
        """Drop it."""


_NOWHERE: Final = _Nowhere()


class _Gathered:
    """Where a session writes what is to be one write."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write_nocheck(self, data: bytes) -> None:
        """Keep it."""
        self.pieces.append(data)
