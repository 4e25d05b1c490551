"""A worker's sessions, which echo messages instead of understanding them."""

from __future__ import annotations

from typing import Any

from picows import WSFrame, WSMsgType

from energyws.protocol import frame
from energyws.protocol.deflate import compress
from energyws.protocol.forms import Form
from workers.websocket.clients.session import Session


class EchoSession(Session):
    """Sends each message back, with its opcode."""

    __slots__ = ("_opcode",)

    def _receive(self, received: WSFrame) -> None:
        if received.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            self._opcode = received.msg_type.value
        super()._receive(received)

    def _on_message(self, payload: bytes) -> None:
        data = frame.encode(self._opcode, payload)
        self.write(compress(data) if self.form is Form.DEFLATE else data)


class Silent:
    """A hub without streams."""

    streams = frozenset[str]()

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None
