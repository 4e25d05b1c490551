"""What attackers send."""

from __future__ import annotations

import base64
import socket
import struct
from typing import Final

import orjson

# SO_LINGER with a time of zero: close() resets the connection.
_RESET: Final = struct.pack("ii", 1, 0)


def masked(payload: bytes) -> bytes:
    """A client's text message; its mask is zeros, so that it need not be applied."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload


# Frames of RFC 6455 section 5.5: a ping without payload, and a text that is not JSON.
PING_FRAME: Final = bytes((0x89, 0x80, 1, 2, 3, 4))
NO_JSON: Final = masked(b"x")
PING: Final = masked(b'{"type":"ping"}')
UNSUBSCRIBE: Final = masked(b'{"type":"unsubscribe","streams":["energy"]}')
MESSAGE_BYTES: Final = 16_384
LARGE_PING: Final = masked(b'{"type":"ping"}'.ljust(MESSAGE_BYTES))


def subscribe(**more: object) -> bytes:
    """The message that subscribes to the stream; more: `last`, `resume`."""
    return masked(orjson.dumps({"type": "subscribe", "streams": ["energy"], **more}))


def nested_token(size: int) -> str:
    """A token without a valid signature whose claims are `size` bytes of nested lists."""
    deep = b'{"sub":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}"
    header, claims = (
        base64.urlsafe_b64encode(part).rstrip(b"=").decode()
        for part in (b'{"alg":"HS256","typ":"JWT"}', deep)
    )
    return f"{header}.{claims}.AAAA"


def reset(connection: socket.socket, last: bytes = b"") -> None:
    """Send these bytes and reset the connection with them."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    if last:
        connection.send(last)
    connection.close()
