"""WebSocket over a blocking socket, for either side, with the freedom to break its rules.

An implementation of its own (RFC 6455): what judges clients and servers should share no code with
either, and no library sends what the table needs, such as frames without a mask.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final, Literal

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MAX_HEAD_BYTES: Final = 64 * 1024
_RECEIVE_BYTES: Final = 64 * 1024

Kind = Literal["message", "pong", "close", "end"]


@dataclass(frozen=True, slots=True)
class Event:
    """code: of a close frame; 1005 if it has none (RFC 6455 section 7.4.1)."""

    kind: Kind
    payload: bytes = b""
    code: int = 0


class Wire:
    """A connection after, or before, its handshake.

    masks: whether this side is the client. All methods raise TimeoutError at the deadline (as
    time.monotonic), and OSError where the connection fails.
    """

    def __init__(self, connection: socket.socket, *, masks: bool) -> None:
        self._connection = connection
        self._masks = masks
        self._buffer = b""
        self._parts = b""
        self._closed = False

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._connection.sendall(data)

    def head(self, deadline: float) -> tuple[str, dict[str, str]]:
        """First line and header fields of an HTTP message; the names in lower case."""
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > _MAX_HEAD_BYTES or not self._more(deadline):
                raise ConnectionError("the connection ended before an HTTP head did")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines)
        return first, {name.strip().lower(): value.strip() for name, _, value in fields}

    def body(self, size: int | None, deadline: float) -> bytes:
        """The body of an HTTP message: so many bytes, or to the end of the connection."""
        while (size is None or len(self._buffer) < size) and self._more(deadline):
            pass
        found, self._buffer = self._buffer[:size], b"" if size is None else self._buffer[size:]
        return found

    def message(self, payload: bytes, *, opcode: int = TEXT, fragments: int = 1) -> None:
        """Send a message in this number of frames."""
        size = -(-len(payload) // fragments) or 1
        parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
        for index, part in enumerate(parts):
            final = index == len(parts) - 1
            self.frame(opcode if index == 0 else 0, part, final=final)

    def frame(
        self,
        opcode: int,
        payload: bytes,
        *,
        final: bool = True,
        reserved: int = 0,
        masked: bool | None = None,
    ) -> None:
        """Send one frame. reserved: the bits RSV1 to RSV3 as a number; masked: None is correct."""
        masked = self._masks if masked is None else masked
        first, bit, size = (
            (0x80 if final else 0) | reserved << 4 | opcode,
            0x80 * masked,
            len(payload),
        )
        if size < 126:
            head = struct.pack("!BB", first, bit | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", first, bit | 126, size)
        else:
            head = struct.pack("!BBQ", first, bit | 127, size)
        if masked:
            key = os.urandom(4)
            head += key
            payload = _mask(payload, key)
        self._connection.sendall(head + payload)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame."""
        self.frame(CLOSE, code.to_bytes(2, "big") + reason.encode())
        self._closed = True

    def receive(self, deadline: float) -> Event:
        """The next message, pong or close, or the end; pings and closes are answered."""
        while True:
            frame = self._frame()
            if frame is not None:
                if event := self._take(*frame):
                    return event
            elif not self._still_open(deadline):
                return Event("end")

    def shut(self) -> None:
        """End the connection, without a close frame."""
        self._connection.close()

    def _take(self, final: bool, opcode: int, payload: bytes) -> Event | None:
        if opcode == PING:
            self.frame(PONG, payload)
        elif opcode == PONG:
            return Event("pong", payload)
        elif opcode == CLOSE:
            if not self._closed:
                self._closed = True
                self.frame(CLOSE, payload[:2])
            return Event("close", payload[2:], int.from_bytes(payload[:2], "big") or 1005)
        else:
            self._parts += payload
            if final:
                whole, self._parts = self._parts, b""
                return Event("message", whole)
        return None

    def _still_open(self, deadline: float) -> bool:
        try:
            return self._more(deadline)
        except ConnectionError:
            return False

    def _frame(self) -> tuple[bool, int, bytes] | None:
        data = self._buffer
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        if size > 125:
            at = 4 if size == 126 else 10
            size = int.from_bytes(data[2:at], "big")
        key = data[at : at + 4] if data[1] & 0x80 else b""
        at += len(key)
        if len(data) < at + size or (data[1] & 0x80 and len(key) < 4):
            return None
        self._buffer = data[at + size :]
        payload = data[at : at + size]
        return bool(data[0] & 0x80), data[0] & 0xF, _mask(payload, key) if key else payload

    def _more(self, deadline: float) -> bool:
        self._connection.settimeout(max(0.001, deadline - time.monotonic()))
        data = self._connection.recv(_RECEIVE_BYTES)
        self._connection.settimeout(None)
        self._buffer += data
        return bool(data)


def key() -> str:
    """A fresh Sec-WebSocket-Key."""
    return base64.b64encode(os.urandom(16)).decode()


def accept(key: str) -> str:
    """The Sec-WebSocket-Accept that answers a key (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _mask(payload: bytes, key: bytes) -> bytes:
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return masked.to_bytes(len(payload), "big")
