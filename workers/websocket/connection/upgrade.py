"""The 101 that lets a client in, and is sent together with what it is told first; and the end.

A system call on a socket costs about as much as all else of a handshake, and wakes the client each
time; so the listener takes the head and writes it before its first message. picows is entered when
the handshake is over: it is given a request of ours, and what it has to write is nothing.
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

# What picows sees of any handshake.
REQUEST: Final = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# RFC 6455 section 1.3.
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Switching(WSUpgradeResponse):
    """A 101 for all that get the same: one may serve any number of connections, one by one.

    picows keeps it as long as the connection; the only header that differs is set right before
    `on_ws_connected`, which asks for the head.
    """

    __slots__ = ("_head", "accept")

    def __init__(self, subprotocol: str | None, extension: str | None) -> None:
        self.version = b"HTTP/1.1"
        self.status = HTTPStatus.SWITCHING_PROTOCOLS
        self.headers = WSUpgradeResponse.create_101_response().headers
        self.body = None
        self.accept = ""
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
        """What picows writes itself."""
        return bytearray()

    def head(self) -> bytes:
        """What the connection that has just been upgraded begins with."""
        return f"{self._head}{self.accept}\r\n\r\n".encode()


@lru_cache(maxsize=64)
def switching(subprotocol: str | None, extension: str | None) -> Switching:
    """The 101 that accepts these."""
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
    """For `on_ws_connected`, at its beginning: what is to be written before anything else."""
    return cast(Switching, transport.response).head()


def forget(request: WSUpgradeRequest) -> None:
    """Empty what picows keeps as long as the connection: it takes room."""
    del request.headers, request.method, request.path, request.version


def send_close(transport: WSTransport, close: Close) -> None:
    """Begin or answer the closing handshake."""
    # picows takes any code, but types it as one of the registered ones.
    transport.send_close(cast(WSCloseCode, close.code), close.reason)
