"""The forms in which clients get the frames of a stream.

Records come as whole WebSocket frames. Each other form is made from them, once per worker and not
once per client.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

# Whole frames to the same in another form.
Encode = Callable[[bytes], bytes]


class Form(Enum):
    """PLAIN and DEFLATE: WebSocket frames, without and with compression. SSE: Server-Sent Events.

    LINES: newline-delimited JSON. A subscription in this form ends where it would go live.
    """

    PLAIN = "plain"
    DEFLATE = "deflate"
    SSE = "sse"
    LINES = "lines"

    @property
    def ends(self) -> bool:
        """Whether a subscription is over once it has caught up."""
        return self is Form.LINES


class Kept:
    """An encoding with a cache, since clients that catch up need the same frames one after another.

    max_bytes: of all frames in the cache, in both forms. unkept: encodes frames that do not fit.
    """

    __slots__ = ("_bytes", "_encode", "_kept", "_max_bytes", "_unkept")

    def __init__(self, encode: Encode, max_bytes: int, unkept: Encode | None = None) -> None:
        self._encode = encode
        self._unkept = unkept or encode
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: dict[bytes, bytes] = {}

    def __call__(self, frames: bytes) -> bytes:
        """The encoded form of these whole frames."""
        if 2 * len(frames) > self._max_bytes:
            return self._unkept(frames)
        encoded = self._kept.get(frames)
        if encoded is None:
            encoded = self._kept[frames] = self._encode(frames)
            self._bytes += len(frames) + len(encoded)
            while self._bytes > self._max_bytes:
                oldest = next(iter(self._kept))
                self._bytes -= len(oldest) + len(self._kept.pop(oldest))
        return encoded
