"""Where a client's frames end, and whether they may come: RFC 6455 section 5, without I/O.

picows parses frames; but it looks at the next one before it delivers one, keeps a frame until it is
complete in a buffer that never shrinks, and answers violations by itself. So it gets what is
scanned here, one frame after the other: each is allowed, and looked at only after the one before
has been handled. A data frame that does not come in one read is passed on in fragments, as any
intermediary may do (section 5.4): nobody waits for its end, neither the check of its text nor
memory. Control frames are passed on whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from energyws.errors import INVALID_TEXT, PROTOCOL_VIOLATION, TOO_BIG, Close, EnergywsError
from energyws.protocol.frame import CLOSE, MAX_CONTROL_BYTES, PING, PONG, TEXT

CONTINUATION: Final = 0x0
BINARY: Final = 0x2
# An honest client does not split 16 KiB further; endless tiny fragments are an attack.
MAX_FRAGMENTS: Final = 64
_DATA: Final = frozenset({TEXT, BINARY, CONTINUATION})
_CONTROL: Final = frozenset({PING, PONG, CLOSE})
_FINAL: Final = 0x80
_RESERVED: Final = 0x70
# RFC 7692 section 6.
_RSV1: Final = 0x40
# Marks a fragment that is made here, and not the first of its frame; no client's frame has it.
_RSV2: Final = 0x20
_MASKED: Final = 0x80
# The first bytes of frames that are whole messages, or pings and pongs.
_SHORT: Final = frozenset(_FINAL | opcode for opcode in (TEXT, BINARY, PING, PONG))
# RFC 6455 section 7.4.1 and the IANA registry; 3000-4999 belong to libraries and applications.
_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})


class Violation(EnergywsError):
    """A violation of the protocol by a client. `close`: the close that answers it."""

    def __init__(self, close: Close, detail: str) -> None:
        super().__init__(detail)
        self.close = close


class FrameScanner:
    """The frames of one client.

    max_bytes: of a message, as it comes. compression: whether permessage-deflate was negotiated.
    """

    __slots__ = (
        "_compression",
        "_fragments",
        "_kept",
        "_last",
        "_lead",
        "_left",
        "_mask",
        "_max_bytes",
        "_size",
    )

    def __init__(self, max_bytes: int, compression: bool = False) -> None:
        self._max_bytes = max_bytes
        self._compression = compression
        # An unfinished header or control frame.
        self._kept = b""
        # Of the message that has begun: the client's fragments, and their bytes.
        self._fragments = self._size = 0
        # Of the data frame that has begun: the bytes to come, how they are masked, and the first
        # byte of the next fragment made of it, without and in the last one.
        self._left = self._lead = self._last = 0
        self._mask = b""

    @property
    def has_state(self) -> bool:
        """Whether later bytes depend on earlier ones; if not, a new scanner will do."""
        return bool(self._kept or self._left or self._fragments)

    def scan(self, data: bytes) -> Iterator[bytes]:
        """Whole frames, and fragments of no more than `data`; data: at most 64 KiB.

        Raises Violation, after which the scanner is of no use.
        """
        if self._kept:
            data, self._kept = self._kept + data, b""
        at = 0
        while at < len(data):
            if self._left:
                payload = data[at : at + self._left]
                at += len(payload)
                yield self._fragment(payload)
                continue
            header = self._header(data, at)
            if header is None:
                self._kept = data[at:]
                return
            begin, size = header
            opcode, end = data[at] & 0xF, begin + size
            if end > len(data) and opcode in _CONTROL:
                self._kept = data[at:]
                return
            if opcode == CLOSE:
                _check_close(_unmasked(data[begin:end], data[begin - 4 : begin]))
            elif opcode in _DATA:
                self._count(data[at], size)
            if end > len(data):
                self._left, self._mask = size, data[begin - 4 : begin]
                self._lead, self._last = data[at] & ~_FINAL, data[at] & _FINAL
                at = begin
            else:
                yield data[at:end]
                at = end

    def _header(self, data: bytes, at: int) -> tuple[int, int] | None:
        """Where the payload begins, and its size; None while the header is incomplete.

        Raises Violation.
        """
        if len(data) - at < 2:
            return None
        first, second = data[at], data[at + 1]
        opcode, size = first & 0xF, second & 0x7F
        allowed = 0
        if opcode in _CONTROL:
            if not first & _FINAL or size > MAX_CONTROL_BYTES:
                raise Violation(PROTOCOL_VIOLATION, "a control frame in fragments, or too long")
        elif opcode not in _DATA:
            raise Violation(PROTOCOL_VIOLATION, f"opcode {opcode}")
        elif opcode == CONTINUATION:
            if not self._fragments:
                raise Violation(PROTOCOL_VIOLATION, "a continuation without a beginning")
        elif self._fragments:
            raise Violation(PROTOCOL_VIOLATION, "a new message inside a fragmented one")
        elif self._compression:
            # RFC 7692 section 6: in the first frame of a message.
            allowed = _RSV1
        if first & _RESERVED & ~allowed:
            raise Violation(PROTOCOL_VIOLATION, "a reserved bit is set")
        if not second & _MASKED:
            # Section 5.1.
            raise Violation(PROTOCOL_VIOLATION, "a frame without a mask")
        at += 2
        if size > MAX_CONTROL_BYTES:
            width, least = (2, 126) if size == 126 else (8, 1 << 16)
            if len(data) - at < width:
                return None
            size = int.from_bytes(data[at : at + width], "big")
            if size < least or size >> 63:
                raise Violation(PROTOCOL_VIOLATION, "a length that is not minimal, or negative")
            at += width
        if self._size + size > self._max_bytes and opcode in _DATA:
            raise Violation(TOO_BIG, f"more than {self._max_bytes} bytes")
        return None if len(data) - at < 4 else (at + 4, size)

    def _count(self, first: int, size: int) -> None:
        """A data frame begins. Raises Violation."""
        if self._fragments == MAX_FRAGMENTS:
            raise Violation(TOO_BIG, f"more than {MAX_FRAGMENTS} fragments")
        if first & _FINAL:
            self._fragments = self._size = 0
        else:
            self._fragments += 1
            self._size += size

    def _fragment(self, payload: bytes) -> bytes:
        """The next bytes of a data frame as a fragment of their own."""
        size = len(payload)
        self._left -= size
        first = self._lead if self._left else self._lead | self._last
        self._lead = CONTINUATION | _RSV2
        mask, by = self._mask, size % 4
        self._mask = mask[by:] + mask[:by]
        if size > MAX_CONTROL_BYTES:
            return bytes((first, _MASKED | 126)) + size.to_bytes(2, "big") + mask + payload
        return bytes((first, _MASKED | size)) + mask + payload


def is_short_frame(data: bytes | memoryview) -> bool:
    """Whether this is exactly one short frame, which may come wherever no message has begun.

    That is what nearly every read brings, and it needs no scanner.
    """
    size = len(data) - 6
    return 0 <= size <= MAX_CONTROL_BYTES and data[1] == _MASKED | size and data[0] in _SHORT


def _check_close(payload: bytes) -> None:
    """Raises Violation for a code that no client may send, or a reason that is not UTF-8."""
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code not in _CLOSE_CODES:
        raise Violation(PROTOCOL_VIOLATION, f"close code {code}")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise Violation(INVALID_TEXT, "a reason that is not UTF-8") from None


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    """Section 5.3; at most MAX_CONTROL_BYTES."""
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
