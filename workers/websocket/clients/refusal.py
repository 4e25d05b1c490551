"""A refusal for browsers: they hide an HTTP error from the page, so they get a message."""

from __future__ import annotations

from typing import Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from energyws.errors import INTERNAL, Close, ErrorCode
from energyws.process.board import Field
from energyws.protocol import messages
from workers.websocket.clients.context import Context
from workers.websocket.connection import framing, upgrade

# An honest client sends no more frames than this before it sees its refusal; more are not parsed.
MOST_FRAMES: Final = 16
# A worker waits for the close frames of so many; who sends tokens that are no good at any rate must
# not hold a descriptor for each for close_timeout_seconds.
MOST_AWAITED: Final = 256


class RefusedClient(WSListener):
    """A refused client: it is upgraded, gets the error, and is closed.

    Until its connection has ended, it counts with those that never become clients.
    """

    __slots__ = ("_context", "_detail", "_error", "_frames", "_transport")

    def __init__(self, context: Context, error: ErrorCode, detail: str) -> None:
        self._context = context
        self._error = error
        self._detail = detail
        self._frames = 0
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """picows: say why, and close."""
        self._transport = transport
        self._context.refused += 1
        self._context.row.add(Field.PENDING)
        upgrade.forget(transport.request)
        close = self._error.close or INTERNAL
        message = messages.error(self._error, self._detail)
        transport.underlying_transport.write(upgrade.head(transport) + message)
        upgrade.send_close(transport, close)
        self._context.connections.closing(self)
        if self._context.refused > MOST_AWAITED:
            framing.of(transport).end()

    def on_ws_frame(self, transport: WSTransport, received: WSFrame) -> None:
        """picows: only the answer to our close frame matters."""
        self._frames += not framing.continues(received)
        if received.msg_type == WSMsgType.CLOSE:
            framing.of(transport).end()
        elif self._frames > MOST_FRAMES:
            framing.of(transport).drop()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        self._context.connections.leave(self)
        self._context.refused -= 1
        self._context.row.add(Field.PENDING, -1)

    @property
    def paused(self) -> bool:
        """Framing: its close frame is waited for."""
        return False

    def violated(self, close: Close) -> None:
        """Framing: it is closing already."""
        if self._transport is not None:
            framing.of(self._transport).fail()

    def pause_writing(self) -> None:
        """picows: nothing more is to be written."""

    def resume_writing(self) -> None:
        """picows: nothing more is to be written."""

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)
