"""Shared compression: permessage-deflate (RFC 7692) without context takeover by the server.

With `server_no_context_takeover` a compressed message does not depend on earlier messages of its
connection, so each frame is compressed once for all clients. Clients may still refer to their
earlier messages; for that the inflated end of those is kept, not the state of zlib.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from typing import Final

from energyws.errors import EnergywsError
from energyws.protocol.forms import Kept
from energyws.protocol.frame import TEXT, encode, split

# RFC 7692 section 6: the bit of a compressed message's first frame.
RSV1: Final = 0x40
# 4 KiB: an ordinary record fits, and clients that ask for less than 32 KiB can be served.
WINDOW_BITS: Final = 12
_LEVEL: Final = 6
# Enough for the window; with its default zlib would clear 128 KiB for every record.
_MEMORY_LEVEL: Final = 5
# RFC 7692 section 7.2.1: the empty block that ends each message and is not sent.
_TAIL: Final = b"\x00\x00\xff\xff"
# The same as a last block: an inflater that does not reach it was given half a message.
_END: Final = b"\x01\x00\x00\xff\xff"
# A message may have several last blocks (section 7.2.3.4). An honest sender makes one per flush.
_MAX_STREAMS: Final = 64
# How far back deflate data may refer (RFC 1951 section 2).
WINDOW_BYTES: Final = 1 << 15

_NAME: Final = "permessage-deflate"
_NO_TAKEOVER: Final = "client_no_context_takeover"
_ACCEPTED: Final = f"{_NAME}; server_no_context_takeover"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
# Section 7.1.2: 8 to 15, without leading zeros.
_BITS: Final = re.compile(r"[89]|1[0-5]", re.ASCII)
_Parameters = list[tuple[str, str | None]]


class BadOffer(EnergywsError):
    """A malformed Sec-WebSocket-Extensions header."""


class BadDeflate(EnergywsError):
    """Bytes that are not a compressed message."""


class TooLong(EnergywsError):
    """A message that is longer than allowed."""


def negotiate(headers: Iterable[str]) -> str | None:
    """The reply to a handshake's Sec-WebSocket-Extensions headers; None: no compression.

    Accepts the first acceptable offer (RFC 7692 section 7.1). Raises BadOffer for a header that
    violates RFC 6455 section 9.1.
    """
    offers = [_offer(text) for header in headers for text in header.split(",") if text.strip()]
    replies = (_reply(parameters) for name, parameters in offers if name == _NAME)
    return next((reply for reply in replies if reply is not None), None)


def _offer(text: str) -> tuple[str, _Parameters]:
    # Splitting is safe: a quoted value must be a token too, without a comma or a semicolon.
    name, *parameters = (part.strip(" \t") for part in text.split(";"))
    return _token(name), [_parameter(part) for part in parameters]


def _parameter(text: str) -> tuple[str, str | None]:
    name, equals, value = (part.strip(" \t") for part in text.partition("="))
    if not equals:
        return _token(name), None
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return _token(name), _token(value)


def _token(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise BadOffer(f"Sec-WebSocket-Extensions: {text[:64]!r} is no token")
    return text


def _reply(parameters: _Parameters) -> str | None:
    """The reply that accepts one offer; None declines it."""
    given = dict(parameters)
    if len(given) < len(parameters):
        return None
    # Section 7.1.1.2 allows this reply also without an offer of it, but some clients then fail.
    reply = f"{_ACCEPTED}; {_NO_TAKEOVER}" if _NO_TAKEOVER in given else _ACCEPTED
    for name, value in given.items():
        match name:
            case "server_no_context_takeover" | "client_no_context_takeover":
                valid = value is None
            case "server_max_window_bits":
                valid = _bits(value) >= WINDOW_BITS
                reply = f"{reply}; {name}={WINDOW_BITS}"
            case "client_max_window_bits":
                # Any size: clients' messages are inflated with the largest window.
                valid = value is None or _bits(value) > 0
            case _:
                valid = False
        if not valid:
            return None
    return reply


def _bits(value: str | None) -> int:
    """The size of a window; 0 for an invalid one."""
    return int(value) if value is not None and _BITS.fullmatch(value) else 0


def deflate(payload: bytes) -> bytes:
    """The payload of the compressed message (RFC 7692 section 7.2.1)."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -WINDOW_BITS, _MEMORY_LEVEL)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(_TAIL)


def takes_over(reply: str | None) -> bool:
    """Whether a client with this reply may refer to its earlier messages (section 7.1.1.2)."""
    return reply is not None and _NO_TAKEOVER not in reply


def window_after(window: bytes, message: bytes) -> bytes:
    """The window for the message after this one."""
    return (window + message)[-WINDOW_BYTES:]


def inflate(data: bytes, max_bytes: int, window: bytes = b"") -> bytes:
    """The inflated payload of a compressed message (RFC 7692 section 7.2.2).

    window: the end of earlier messages, which it may refer to. Never inflates more than
    max_bytes + 1 bytes; raises TooLong and BadDeflate.
    """
    parts: list[bytes] = []
    room = max_bytes + 1
    left = data + _TAIL + _END
    for _ in range(_MAX_STREAMS):
        inflater = zlib.decompressobj(-zlib.MAX_WBITS, zdict=window)
        try:
            part = inflater.decompress(left, room)
        except zlib.error:
            raise BadDeflate("no deflate data") from None
        room -= len(part)
        if room <= 0:
            raise TooLong(f"more than {max_bytes} bytes")
        parts.append(part)
        left = inflater.unused_data
        if not inflater.eof:
            raise BadDeflate("deflate data that has no end")
        if not left:
            return b"".join(parts)
        # The next stream may refer to this one.
        window = window_after(window, part)
    raise BadDeflate(f"more than {_MAX_STREAMS} streams")


def compress(frames: bytes) -> bytes:
    """The same whole frames, with each text frame compressed if that makes it smaller."""
    return b"".join(_compressed(whole, payload) for whole, payload in split(frames))


def _compressed(whole: bytes, payload: bytes) -> bytes:
    if whole[0] != 0x80 | TEXT:
        return whole
    small = deflate(payload)
    return encode(RSV1 | TEXT, small) if len(small) < len(payload) else whole


class Compressor(Kept):
    """`compress`, kept. Frames that are too large to be kept stay uncompressed: compressing them
    anew for each client would cost more than it saves.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(compress, max_bytes, lambda frames: frames)
