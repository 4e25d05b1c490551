"""The 101 that lets a client in, and is sent together with what it is told first; and the end.

picows writes a response as soon as it has one, then says that the connection is there. A system
call on a socket costs about as much as all else of a handshake, and wakes the client each time; so
what picows is given to write here is nothing, and the listener takes the head and writes it before
its first message.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Final, cast

from picows import WSCloseCode, WSTransport, WSUpgradeRequest, WSUpgradeResponse

from energyws.errors import Close

_ACCEPT: Final = "Sec-WebSocket-Accept"


class Switching(WSUpgradeResponse):
    """A 101 for all that get the same: one may serve any number of connections, one by one.

    picows keeps it as long as the connection; the only header that differs, Sec-WebSocket-Accept,
    it sets anew each time, and `on_ws_connected` follows at once.
    """

    __slots__ = ("_head",)

    def __init__(self, subprotocol: str | None, extension: str | None) -> None:
        self.version = b"HTTP/1.1"
        self.status = HTTPStatus.SWITCHING_PROTOCOLS
        self.headers = WSUpgradeResponse.create_101_response().headers
        self.body = None
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Connection: upgrade",
            "Upgrade: websocket",
        ]
        if subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        if extension is not None:
            lines.append(f"Sec-WebSocket-Extensions: {extension}")
        self._head = "\r\n".join([*lines, f"{_ACCEPT}: "])

    def to_bytes(self) -> bytearray:
        """What picows writes itself."""
        return bytearray()

    def head(self) -> bytes:
        """What the connection for which picows has just asked begins with."""
        return f"{self._head}{self.headers[_ACCEPT]}\r\n\r\n".encode()


@lru_cache(maxsize=64)
def switching(subprotocol: str | None, extension: str | None) -> Switching:
    """The 101 that accepts these."""
    return Switching(subprotocol, extension)


def head(transport: WSTransport) -> bytes:
    """For `on_ws_connected`, at its beginning: what is to be written before anything else."""
    return cast(Switching, transport.response).head()


def forget(request: WSUpgradeRequest) -> None:
    """Empty what picows keeps as long as the connection: it holds the token, and takes room."""
    del request.headers, request.method, request.path, request.version


def send_close(transport: WSTransport, close: Close) -> None:
    """Begin or answer the closing handshake."""
    # picows takes any code, but types it as one of the registered ones.
    transport.send_close(cast(WSCloseCode, close.code), close.reason)
