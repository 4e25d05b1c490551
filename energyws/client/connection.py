"""One connection of a client: a bounded queue of messages, between a socket and an application."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import orjson
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSProtocolError, WSTransport

from energyws.client.failure import Failure
from energyws.client.payload import NoMessage, decode
from energyws.errors import NORMAL, TOO_BIG
from energyws.settings import KIB, MAX_RECORD_BYTES

# Nothing received for this long, not even a reply to the ping after half of it: half open.
SILENCE_SECONDS: Final = 40.0
# The largest record that a service can be configured to accept, and the fields around it.
MAX_MESSAGE_BYTES: Final = MAX_RECORD_BYTES + 64 * KIB
# How much is queued for the application before the socket is no longer read.
QUEUE_MESSAGES: Final = 1_000
QUEUE_BYTES: Final = 16 << 20

Message = dict[str, Any]


class Connection(WSListener):
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
        self._transport: WSTransport | None = None
        # Messages with their sizes; None after the last one.
        self._queue: deque[tuple[Message | None, int]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._bytes = 0
        self._parts: list[bytes] = []
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self._received_at = self._loop.time()
        self._pinged = False
        self._timer: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        # One timer per connection: a timeout per message would be a sixth of a message's cost.
        self._timer = self._loop.call_later(SILENCE_SECONDS / 2, self._on_timer)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._received_at = self._loop.time()
        self._pinged = False
        if self.failure is not None:
            return
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._on_close(frame)
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            if frame.fin and not self._parts:
                self._take(frame.get_payload_as_memoryview())
            else:
                # Only proxies fragment messages.
                self._parts.append(frame.get_payload_as_bytes())
                if sum(map(len, self._parts)) > MAX_MESSAGE_BYTES:
                    self._on_too_big()
                elif frame.fin:
                    whole, self._parts = b"".join(self._parts), []
                    self._take(memoryview(whole))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.end(Failure("closed", "closed with 1006"))

    async def next(self) -> Message | None:
        """The next message; None after the last one."""
        if self._paused and self._is_half_empty() and self._transport is not None:
            self._paused = False
            self._received_at = self._loop.time()
            self._transport.underlying_transport.resume_reading()
        while not self._queue:
            self._wake = self._loop.create_future()
            await self._wake
        message, size = self._queue.popleft()
        self._bytes -= size
        return message

    def send(self, message: dict[str, object]) -> None:
        """Send a message, unless the connection has ended."""
        if self._transport is not None and self.failure is None:
            self._transport.send(WSMsgType.TEXT, orjson.dumps(message))

    def end(self, failure: Failure, code: WSCloseCode = WSCloseCode.OK) -> None:
        """End the connection with this close code; `next` still gives the queued messages."""
        if self.failure is not None:
            return
        self.failure = failure
        if self.renewal is not None:
            self.renewal.cancel()
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.send_close(code)
            self._transport.disconnect()
        self._put(None, 0)
        self._on_end(self)

    async def close(self) -> None:
        """End the connection, if it has not ended, and wait until its socket is closed."""
        if self.failure is None:
            self._on_end = _ignore
            self.end(Failure("closed", "", NORMAL.code))
        transport, self._transport = self._transport, None
        if transport is None:
            return
        if not transport.is_disconnected:
            transport.disconnect(graceful=False)
        try:
            await transport.wait_disconnected()
        except WSProtocolError as error:
            if error.code == WSCloseCode.MESSAGE_TOO_BIG:
                self.failure = _TOO_BIG

    def _take(self, data: memoryview) -> None:
        if len(data) > MAX_MESSAGE_BYTES:
            # picows is disconnecting already, but still delivers this message.
            self._on_too_big()
            return
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
            self._transport.underlying_transport.pause_reading()

    def _put(self, message: Message | None, size: int) -> None:
        self._queue.append((message, size))
        self._bytes += size
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _on_too_big(self) -> None:
        self.end(_TOO_BIG, WSCloseCode.MESSAGE_TOO_BIG)

    def _is_half_empty(self) -> bool:
        return len(self._queue) < QUEUE_MESSAGES // 2 and self._bytes < QUEUE_BYTES // 2

    def _on_close(self, frame: WSFrame) -> None:
        status = int(frame.get_close_code().value)
        reason = frame.get_close_reason()
        text = f"closed with {status}: {reason}" if reason else f"closed with {status}"
        code = None
        if (remark := self._remark) is not None:
            code, text = remark.get("code"), f"{remark.get('code')}: {remark.get('message')}"
        self.end(Failure("closed", text, status, code), frame.get_close_code())

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


_TOO_BIG: Final = Failure(
    "closed", f"a message of more than {MAX_MESSAGE_BYTES} bytes", TOO_BIG.code
)


def _ignore(connection: Connection) -> None:
    """The client itself closed the connection."""
