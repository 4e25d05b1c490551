"""The upgrade to a WebSocket, and its closing handshake, around picows.

A system call on a socket costs about as much as the rest of a handshake, and each write wakes the
client; so the session takes the 101 and writes it together with its first message. picows comes in
when the handshake is over: it is given a request that we made, and writes an empty response.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple, cast

from picows import (
    WSCloseCode,
    WSListener,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

from energyws.errors import Close

# The request that picows gets for every handshake.
REQUEST: Final = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# RFC 6455 section 1.3.
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Switching(WSUpgradeResponse):
    """A 101, shared by all connections with the same subprotocol and extension.

    picows keeps it as long as the connection, so sharing saves memory. The only header that differs
    is set right before `on_ws_connected`, which takes the head.
    """

    __slots__ = ("_head", "accept", "compression")

    def __init__(self, subprotocol: str | None, extension: str | None) -> None:
        self.version = b"HTTP/1.1"
        self.status = HTTPStatus.SWITCHING_PROTOCOLS
        self.headers = WSUpgradeResponse.create_101_response().headers
        self.body = None
        self.accept = ""
        self.compression = extension is not None
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Connection: upgrade",
            "Upgrade: websocket",
        ]
        if subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        if extension is not None:
            lines.append(f"Sec-WebSocket-Extensions: {extension}")
        self._head = "\r\n".join([*lines, "Sec-WebSocket-Accept: "])

    def to_bytes(self) -> bytearray:
        """What picows writes: nothing."""
        return bytearray()

    def head(self) -> bytes:
        """The 101 for the connection that has just been upgraded."""
        return f"{self._head}{self.accept}\r\n\r\n".encode()


@lru_cache(maxsize=64)
def switching(subprotocol: str | None, extension: str | None) -> Switching:
    return Switching(subprotocol, extension)


class Upgrade(NamedTuple):
    """A request that makes its connection a WebSocket. key: its Sec-WebSocket-Key."""

    listener: WSListener
    response: Switching
    key: str

    def begin(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        """picows' listener factory; `on_ws_connected` follows."""
        # RFC 6455 section 4.2.2.
        digest = hashlib.sha1(self.key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
        self.response.accept = base64.b64encode(digest).decode("ascii")
        return WSUpgradeResponseWithListener(self.response, self.listener)


def head(transport: WSTransport) -> bytes:
    """The 101, to be taken first thing in `on_ws_connected`, and written before anything else."""
    return cast(Switching, transport.response).head()


def forget(request: WSUpgradeRequest) -> None:
    """Empty a request that picows would keep as long as the connection, to save its memory."""
    del request.headers, request.method, request.path, request.version


def send_close(transport: WSTransport, close: Close) -> None:
    """Begin or answer the closing handshake."""
    # picows takes any code, but types it as one of the registered ones.
    transport.send_close(cast(WSCloseCode, close.code), close.reason)
