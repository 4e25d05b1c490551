"""A client that is not let in, and could not read an HTTP refusal."""

from __future__ import annotations

from typing import Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from energyws.errors import INTERNAL, ErrorCode
from energyws.protocol import messages
from workers.websocket.clients.connections import ConnectionRegistry
from workers.websocket.connection import framing, upgrade

# What a client may have sent before it knows that it is refused: no more frames are looked at.
MOST_FRAMES: Final = 16


class RefusedClient(WSListener):
    """A browser that is not let in: it cannot read an HTTP refusal, so it gets a message."""

    __slots__ = ("_detail", "_error", "_frames", "_roster", "_transport", "closing")

    def __init__(self, roster: ConnectionRegistry, error: ErrorCode, detail: str) -> None:
        self.closing = True
        self._roster = roster
        self._error = error
        self._detail = detail
        self._frames = 0
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """picows: say why, and close."""
        self._transport = transport
        upgrade.forget(transport.request)
        close = self._error.close or INTERNAL
        message = messages.error(self._error, self._detail)
        transport.underlying_transport.write(upgrade.head(transport) + message)
        upgrade.send_close(transport, close)
        self._roster.closing(self)

    def on_ws_frame(self, transport: WSTransport, received: WSFrame) -> None:
        """picows: only the answer to our close matters."""
        self._frames += 1
        if received.msg_type == WSMsgType.CLOSE:
            framing.end(transport)
        elif self._frames > MOST_FRAMES:
            framing.drop(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """picows: it is gone."""
        self._transport = None
        self._roster.leave(self)

    def failed(self) -> None:
        """Framing: it is closing already."""

    def pause_writing(self) -> None:
        """picows: nothing more is written anyway."""

    def resume_writing(self) -> None:
        """picows: nothing more is written anyway."""

    def abort(self) -> None:
        """ConnectionRegistry: the closing handshake took too long."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)
