"""One connection of a client: frames in, messages out, and the socket unread when they pile up."""

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

# Nothing at all for so long, not even an answer to the ping half-way: the connection is half open.
SILENCE_SECONDS: Final = 40.0
# The largest record that a service takes, and what is around it.
MAX_MESSAGE_BYTES: Final = MAX_RECORD_BYTES + 64 * KIB
# How much may wait for the application before the socket is left unread: messages, and bytes.
QUEUE_MESSAGES: Final = 1_000
QUEUE_BYTES: Final = 16 << 20

Message = dict[str, Any]


class Connection(WSListener):
    """Messages in their order until its end; then `trouble` says why.

    arrived: called at once with every message but those of data; whether it has a place in the
    order of the others.
    ended: called once, unless we end it ourselves.
    """

    def __init__(
        self, arrived: Callable[[Connection, Message], bool], ended: Callable[[Connection], None]
    ) -> None:
        self.trouble: Failure | None = None
        self.after_seconds: float | None = None
        # What sends a fresh token, and whether that has no answer yet.
        self.renewal: asyncio.Task[None] | None = None
        self.awaits_auth = False
        # The last message, where that was an error or a notice: it gives the reason of a close.
        self._remark: Message | None = None
        self._arrived = arrived
        self._ended = ended
        self._transport: WSTransport | None = None
        # Message and size; None after the last one.
        self._queue: deque[tuple[Message | None, int]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._bytes = 0
        self._parts: list[bytes] = []
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        # One for the connection: a timeout around each message would be a sixth of its cost.
        self._timer = self._loop.call_later(SILENCE_SECONDS / 2, self._on_timer)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._heard_at = self._loop.time()
        self._asked = False
        if self.trouble is not None:
            return
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._on_close(frame)
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            if frame.fin and not self._parts:
                self._take(frame.get_payload_as_memoryview())
            else:
                # Nobody but a proxy divides messages.
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
        """The next message; None after the last."""
        if self._paused and self._is_half_empty() and self._transport is not None:
            self._paused = False
            self._heard_at = self._loop.time()
            self._transport.underlying_transport.resume_reading()
        while not self._queue:
            self._wake = self._loop.create_future()
            await self._wake
        message, size = self._queue.popleft()
        self._bytes -= size
        return message

    def send(self, message: dict[str, object]) -> None:
        """Send a message, unless the connection is gone."""
        if self._transport is not None and self.trouble is None:
            self._transport.send(WSMsgType.TEXT, orjson.dumps(message))

    def end(self, trouble: Failure, code: WSCloseCode = WSCloseCode.OK) -> None:
        """End it with this close code; what has come can still be consumed."""
        if self.trouble is not None:
            return
        self.trouble = trouble
        if self.renewal is not None:
            self.renewal.cancel()
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.send_close(code)
            self._transport.disconnect()
        self._put(None, 0)
        self._ended(self)

    async def close(self) -> None:
        """Make sure that nothing of it is left."""
        if self.trouble is None:
            self._ended = _nobody
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
                self.trouble = _TOO_BIG

    def _take(self, data: memoryview) -> None:
        if len(data) > MAX_MESSAGE_BYTES:
            # picows has begun to disconnect, and delivers it all the same.
            self._on_too_big()
            return
        try:
            message = decode(data)
        except NoMessage as error:
            self.end(Failure("websocket", str(error)))
            return
        kind = message.get("type")
        self._remark = message if kind in ("error", "notice") else None
        # The first of them is all that there is to know of most messages.
        if kind != "data" and not self._arrived(self, message):
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
            # What we leave unread says nothing about the other end.
            self._heard_at = now
        elif now - self._heard_at >= half:
            if self._asked:
                self.end(Failure("silence", "silence"))
                return
            self._asked = True
            self._heard_at = now
            self.send({"type": "ping"})
        self._timer = self._loop.call_at(self._heard_at + half, self._on_timer)


_TOO_BIG: Final = Failure(
    "closed", f"a message of more than {MAX_MESSAGE_BYTES} bytes", TOO_BIG.code
)


def _nobody(connection: Connection) -> None:
    """Its end is no news to the client."""
