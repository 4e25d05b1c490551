"""One connection of a client: a bounded queue of messages, between a socket and an application.

The socket is asyncio's, and the protocol that of `websockets` without I/O: its own asyncio client
bounds its queue in frames but not in bytes, and would need a task per connection to empty it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

import orjson
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from .codes import ABNORMAL, NORMAL, TOO_BIG
from .failure import Failure
from .payload import NoMessage, decode

# Nothing received for this long, not even a reply to the ping after half of it: half open.
SILENCE_SECONDS: Final = 40.0
# The largest record that a service can be configured to accept, and the fields around it.
MAX_MESSAGE_BYTES: Final = (16 << 20) + (64 << 10)
# How much is queued for the application before the socket is no longer read.
QUEUE_MESSAGES: Final = 1_000
QUEUE_BYTES: Final = 16 << 20
_READ_BYTES: Final = 64 << 10
# An attribute of an Enum is looked up in Python.
_TEXT: Final = Opcode.TEXT
_BINARY: Final = Opcode.BINARY
_CONT: Final = Opcode.CONT
_OPEN: Final = State.OPEN

# Not registered, so that no application can set its level: at DEBUG, websockets logs the token.
_LOG: Final = logging.Logger("energyws.client", logging.INFO)
_LOG.parent = logging.getLogger("energyws.client")

Message = dict[str, Any]


class Connection(asyncio.BufferedProtocol):
    """Gives messages in order until the connection ends; `failure` is then the reason.

    on_message: called on receipt of each message except data messages; returns whether to queue it.
    on_end: called once, unless `close` ends the connection.
    """

    def __init__(
        self,
        on_message: Callable[[Connection, Message], bool],
        on_end: Callable[[Connection], None],
    ) -> None:
        self.failure: Failure | None = None
        self.after_seconds: float | None = None
        # The task that sends a fresh token, and whether the service has not replied to one yet.
        self.renewal: asyncio.Task[None] | None = None
        self.awaits_auth = False
        # The last message, if it was an error or a notice: the reason for a close that follows.
        self._remark: Message | None = None
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._lost = asyncio.Event()
        # Messages with their sizes; None after the last one.
        self._queue: deque[tuple[Message | None, int]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._bytes = 0
        # asyncio's own would be a new one of 256 KiB for every read. A view, because asyncio's TLS
        # reads into slices of it.
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._parts: list[bytes] = []
        self._paused = False
        self._received_at = self._loop.time()
        self._pinged = False
        self._timer: asyncio.TimerHandle | None = None
        self._protocol: ClientProtocol
        self._transport: asyncio.Transport | None = None

    async def open(
        self, url: str, headers: Mapping[str, str], ssl_context: ssl.SSLContext | None
    ) -> None:
        """Connect and shake hands; at most once.

        Raises OSError, UnicodeError for an impossible host name, and websockets' InvalidHandshake.
        It follows no redirect: the target would receive the token.
        """
        parts = urlsplit(url)
        uri = parse_uri(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
        self._protocol = ClientProtocol(uri, max_size=MAX_MESSAGE_BYTES, logger=_LOG)
        request = self._protocol.connect()
        request.headers.update(headers)
        try:
            await self._loop.create_connection(
                lambda: self,
                uri.host,
                uri.port,
                ssl=(ssl_context or True) if uri.secure else None,
                server_hostname=uri.host if uri.secure else None,
            )
            self._protocol.send_request(request)
            self._write()
            await self._opened
        except BaseException:
            self._abandon()
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: the transports of uvloop do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.failure is None:
            self._received_at = self._loop.time()
            self._pinged = False
            self._protocol.receive_data(bytes(self._buffer[:nbytes]))
            self._process()

    def connection_lost(self, exception: Exception | None) -> None:
        self._lost.set()
        if self.failure is None:
            self._protocol.receive_eof()
            self._process()

    async def next(self) -> Message | None:
        """The next message; None after the last one."""
        if self._paused and self._is_half_empty() and self._transport is not None:
            self._paused = False
            self._received_at = self._loop.time()
            self._transport.resume_reading()
        while not self._queue:
            self._wake = self._loop.create_future()
            await self._wake
        message, size = self._queue.popleft()
        self._bytes -= size
        return message

    def send(self, message: dict[str, object]) -> None:
        """Send a message, unless the connection has ended."""
        if self.failure is None:
            self._protocol.send_text(orjson.dumps(message))
            self._write()

    def end(self, failure: Failure) -> None:
        """End the connection; `next` still gives the queued messages."""
        if self.failure is not None:
            return
        self.failure = failure
        if self.renewal is not None:
            self.renewal.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            if self._protocol.state is _OPEN:
                self._protocol.send_close(NORMAL)
                self._write()
            self._transport.close()
        self._put(None, 0)
        self._on_end(self)

    async def close(self) -> None:
        """End the connection, if it has not ended, and wait until its socket is closed."""
        self._abandon()
        if self._transport is not None:
            await self._lost.wait()

    def _abandon(self) -> None:
        if self.failure is None:
            self._on_end = _ignore
            self.end(Failure("closed", "", NORMAL))
        if self._transport is not None:
            # A service that does not read any more would keep the socket open.
            self._transport.abort()

    def _process(self) -> None:
        """Do what follows from the bytes, or from the end of them, that the protocol was given."""
        # First the protocol's own answers: a pong, or the echo of a close frame.
        self._write()
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and self.failure is None:
                self._on_frame(event)
        if not self._opened.done():
            self._on_handshake()
        elif self.failure is None and self._protocol.state is not _OPEN:
            self._on_close()

    def _write(self) -> None:
        if self._transport is not None and (data := b"".join(self._protocol.data_to_send())):
            self._transport.write(data)

    def _on_handshake(self) -> None:
        if (error := self._protocol.handshake_exc) is not None:
            self._opened.set_exception(error)
        elif self._protocol.state is _OPEN:
            self._opened.set_result(None)
            # One timer per connection: a timeout per message would be a sixth of a message's cost.
            self._timer = self._loop.call_later(SILENCE_SECONDS / 2, self._on_timer)

    def _on_frame(self, frame: Frame) -> None:
        opcode = frame.opcode
        if not (opcode is _TEXT or opcode is _BINARY or opcode is _CONT):
            return
        if frame.fin and not self._parts:
            self._take(frame.data)
            return
        # Only proxies fragment messages.
        self._parts.append(bytes(frame.data))
        if frame.fin:
            whole, self._parts = b"".join(self._parts), []
            self._take(whole)

    def _take(self, data: bytes | bytearray | memoryview) -> None:
        try:
            message = decode(data)
        except NoMessage as error:
            self.end(Failure("websocket", str(error)))
            return
        kind = message.get("type")
        self._remark = message if kind in ("error", "notice") else None
        # First, because it decides for nearly all messages.
        if kind != "data" and not self._on_message(self, message):
            return
        self._put(message, len(data))
        is_full = len(self._queue) > QUEUE_MESSAGES or self._bytes > QUEUE_BYTES
        if is_full and not self._paused:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()

    def _put(self, message: Message | None, size: int) -> None:
        self._queue.append((message, size))
        self._bytes += size
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _is_half_empty(self) -> bool:
        return len(self._queue) < QUEUE_MESSAGES // 2 and self._bytes < QUEUE_BYTES // 2

    def _on_close(self) -> None:
        """The service closed the connection, lost it, or broke the protocol."""
        self._protocol.receive_eof()
        closed = self._protocol.close_exc
        if closed.rcvd is None and closed.sent is not None and closed.sent.code == TOO_BIG:
            self.end(_TOO_BIG)
            return
        status, reason = ABNORMAL, ""
        if closed.rcvd is not None:
            status, reason = closed.rcvd.code, closed.rcvd.reason
        text = f"closed with {status}: {reason}" if reason else f"closed with {status}"
        code = None
        if closed.rcvd is not None and (remark := self._remark) is not None:
            code, text = remark.get("code"), f"{remark.get('code')}: {remark.get('message')}"
        self.end(Failure("closed", text, status, code))

    def _on_timer(self) -> None:
        half = SILENCE_SECONDS / 2
        now = self._loop.time()
        if self._paused:
            # While the socket is not read, silence proves nothing.
            self._received_at = now
        elif now - self._received_at >= half:
            if self._pinged:
                self.end(Failure("silence", "silence"))
                return
            self._pinged = True
            self._received_at = now
            self.send({"type": "ping"})
        self._timer = self._loop.call_at(self._received_at + half, self._on_timer)


_TOO_BIG: Final = Failure("closed", f"a message of more than {MAX_MESSAGE_BYTES} bytes", TOO_BIG)


def _ignore(connection: Connection) -> None:
    """The client itself closed the connection."""
