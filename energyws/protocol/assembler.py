"""From a client's frames to its messages: what RFC 6455 requires of a server beyond framing.

picows parses headers, masks and lengths; this module checks the rest: reserved bits (section 5.2),
the order and the total size of fragments (5.4), UTF-8 as it arrives (8.1) and close codes (7.4).
A compressed message (RFC 7692 section 6) is inflated when it is complete, so a client's state is no
larger than the bytes it sent, plus one window of its earlier messages.
"""

from __future__ import annotations

import codecs
from typing import Final

from energyws.errors import (
    INVALID_DEFLATE,
    INVALID_TEXT,
    PROTOCOL_VIOLATION,
    TOO_BIG,
    Close,
    EnergywsError,
)
from energyws.protocol.deflate import BadDeflate, TooLong, inflate, window_after
from energyws.protocol.frame import TEXT

CONTINUATION: Final = 0x0
BINARY: Final = 0x2
# An honest client does not split 16 KiB further; endless tiny fragments are an attack.
MAX_FRAGMENTS: Final = 64
# RFC 6455 section 7.4.1 and the IANA registry; 3000-4999 belong to libraries and applications.
_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})


class Violation(EnergywsError):
    """A violation of the protocol by a client. `close`: the close that answers it."""

    def __init__(self, close: Close, detail: str) -> None:
        super().__init__(detail)
        self.close = close


class Assembler:
    """Joins the fragments of one connection's messages.

    max_bytes: of a message, compressed as well as inflated. takeover: whether compressed messages
    may refer to earlier ones.
    """

    __slots__ = (
        "_compressed",
        "_decoder",
        "_fragments",
        "_max_bytes",
        "_parts",
        "_size",
        "_takeover",
        "_text",
        "_window",
    )

    def __init__(self, max_bytes: int, takeover: bool = False) -> None:
        self._max_bytes = max_bytes
        self._takeover = takeover
        self._window = b""
        self._parts: list[bytes] | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._fragments = 0
        self._size = 0
        self._compressed = self._text = False

    @property
    def has_state(self) -> bool:
        """Whether later frames depend on earlier ones; if not, a new Assembler will do."""
        return self._parts is not None or bool(self._window)

    def feed(
        self, opcode: int, final: bool, payload: bytes, compressed: bool = False
    ) -> bytes | None:
        """Take the next data frame: the message if it was the last, else None. Raises Violation.

        compressed: RSV1 is set; the caller has checked with `check_reserved` that it may be.
        """
        if opcode == CONTINUATION:
            if self._parts is None:
                raise Violation(PROTOCOL_VIOLATION, "a continuation without a beginning")
        elif self._parts is not None:
            raise Violation(PROTOCOL_VIOLATION, "a new message inside a fragmented one")
        elif final:
            if len(payload) > self._max_bytes:
                raise Violation(TOO_BIG, f"more than {self._max_bytes} bytes")
            if compressed:
                payload = self._inflate(payload)
            if opcode == TEXT:
                _check_text(payload)
            return payload
        else:
            self._parts = []
            self._fragments = self._size = 0
            self._compressed = compressed
            self._text = opcode == TEXT
            if self._text and not compressed:
                self._decoder = codecs.getincrementaldecoder("utf-8")()
        return self._continue(final, payload)

    def _continue(self, final: bool, payload: bytes) -> bytes | None:
        assert self._parts is not None
        self._fragments += 1
        self._size += len(payload)
        if self._size > self._max_bytes or self._fragments > MAX_FRAGMENTS:
            raise Violation(
                TOO_BIG, f"more than {self._max_bytes} bytes or {MAX_FRAGMENTS} fragments"
            )
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, final)
            except UnicodeDecodeError:
                raise Violation(INVALID_TEXT, "a text message that is not UTF-8") from None
        self._parts.append(payload)
        if not final:
            return None
        message = b"".join(self._parts)
        self._parts = self._decoder = None
        if self._compressed:
            message = self._inflate(message)
            if self._text:
                _check_text(message)
        return message

    def _inflate(self, payload: bytes) -> bytes:
        try:
            message = inflate(payload, self._max_bytes, self._window)
        except TooLong as error:
            raise Violation(TOO_BIG, str(error)) from None
        except BadDeflate as error:
            raise Violation(INVALID_DEFLATE, str(error)) from None
        if self._takeover:
            self._window = window_after(self._window, message)
        return message


def _check_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise Violation(INVALID_TEXT, "a text message that is not UTF-8") from None


def check_reserved(opcode: int, rsv1: int, rsv2: int, rsv3: int, compression: bool) -> None:
    """Raises Violation for a reserved bit that is set.

    If compression was negotiated, RSV1 may be set in the first frame of a message, but not in a
    continuation or a control frame (RFC 7692 section 6).
    """
    if rsv2 or rsv3 or (rsv1 and not (compression and opcode in (TEXT, BINARY))):
        raise Violation(PROTOCOL_VIOLATION, "a reserved bit is set")


def reply_code(payload_size: int, code: int) -> int:
    """The code that answers a client's close frame: the client's own, or 1000 if it sent none.

    Raises Violation for a code that no client may send.
    """
    if payload_size == 0:
        return 1000
    if code in _CLOSE_CODES or 3000 <= code <= 4999:
        return code
    raise Violation(PROTOCOL_VIOLATION, f"close code {code}")
