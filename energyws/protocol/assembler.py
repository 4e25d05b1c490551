"""From a client's frames to its messages: what depends on their payload.

`energyws.protocol.frame_scanner` has let the frames pass; this module joins fragments and checks
UTF-8 as it arrives (RFC 6455 section 8.1).
A compressed message (RFC 7692 section 6) is inflated when it is complete, so a client's state is no
larger than the bytes it sent, plus one window of its earlier messages.
"""

from __future__ import annotations

import codecs

from energyws.errors import INVALID_DEFLATE, INVALID_TEXT, TOO_BIG
from energyws.protocol.deflate import BadDeflate, TooLong, inflate, window_after
from energyws.protocol.frame import TEXT
from energyws.protocol.frame_scanner import Violation


class Assembler:
    """Joins the fragments of one connection's messages.

    max_bytes: of a message, compressed as well as inflated. takeover: whether compressed messages
    may refer to earlier ones.
    """

    __slots__ = (
        "_compressed",
        "_decoder",
        "_max_bytes",
        "_parts",
        "_takeover",
        "_text",
        "_window",
    )

    def __init__(self, max_bytes: int, takeover: bool = False) -> None:
        self._max_bytes = max_bytes
        self._takeover = takeover
        self._window = b""
        self._parts: bytearray | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._compressed = self._text = False

    @property
    def has_state(self) -> bool:
        """Whether later frames depend on earlier ones; if not, a new Assembler will do."""
        return self._parts is not None or bool(self._window)

    def feed(
        self, opcode: int, final: bool, payload: bytes, compressed: bool = False
    ) -> bytes | None:
        """Take the next data frame: the message if it was the last, else None. Raises Violation.

        compressed: RSV1 is set.
        """
        if self._parts is None:
            if final:
                if compressed:
                    payload = self._inflate(payload)
                if opcode == TEXT:
                    _check_text(payload)
                return payload
            self._parts = bytearray()
            self._compressed = compressed
            self._text = opcode == TEXT
            if self._text and not compressed:
                self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._parts += payload
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, final)
            except UnicodeDecodeError:
                raise Violation(INVALID_TEXT, "a text message that is not UTF-8") from None
        if not final:
            return None
        message = bytes(self._parts)
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
