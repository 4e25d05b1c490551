"""Frames, close frames and compressed messages that violate RFC 6455 or RFC 7692.

Each with the close code that answers it. Masks are zeros, so that payloads can be read.
"""

from __future__ import annotations

import zlib
from itertools import product
from typing import Final

from energyws.protocol.deflate import deflate
from tests.clients import masked

Table = dict[str, tuple[bytes, int]]

MAX_MESSAGE_BYTES: Final = 1_000
_NAMES: Final = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
_DATA, _CONTROL = (0, 1, 2), (8, 9, 10)


def _unmasked(opcode: int, payload: bytes = b"") -> bytes:
    return bytes((0x80 | opcode, len(payload))) + payload


def _length(opcode: int, width: int, size: int, payload: bytes = b"") -> bytes:
    """A frame whose length takes this many bytes."""
    flag = 126 if width == 2 else 127
    return bytes((0x80 | opcode, 0x80 | flag)) + size.to_bytes(width, "big") + bytes(4) + payload


def _fragments(*payloads: bytes, opcode: int = 1) -> bytes:
    last = len(payloads) - 1
    return b"".join(
        masked(0 if at else opcode, payload, final=at == last)
        for at, payload in enumerate(payloads)
    )


HEADERS: Final[Table] = {
    **{
        f"reserved opcode {opcode}": (masked(opcode, b""), 1002)
        for opcode in (*range(3, 8), *range(11, 16))
    },
    **{
        f"reserved opcode {opcode} in fragments": (masked(opcode, b"", final=False), 1002)
        for opcode in (*range(3, 8), *range(11, 16))
    },
    **{
        f"reserved bits {bits:03b} of a {name}": (masked(opcode, b"", reserved=bits), 1002)
        for (opcode, name), bits in product(_NAMES.items(), range(1, 8))
    },
    **{
        f"{name} without a mask": (_unmasked(opcode, b"x"), 1002) for opcode, name in _NAMES.items()
    },
    **{
        f"{_NAMES[opcode]} in fragments": (masked(opcode, b"", final=False), 1002)
        for opcode in _CONTROL
    },
    **{f"{_NAMES[opcode]} of 126 bytes": (masked(opcode, bytes(126)), 1002) for opcode in _CONTROL},
    **{
        f"{_NAMES[opcode]} with a length of 64 bits": (_length(opcode, 8, 70_000), 1002)
        for opcode in _CONTROL
    },
    **{
        f"length {size} of a {_NAMES[opcode]} in {width} bytes": (
            _length(opcode, width, size, bytes(min(size, 200))),
            1002,
        )
        for opcode, (width, size) in product(
            _DATA, ((2, 0), (2, 1), (2, 125), (8, 0), (8, 126), (8, 65_535))
        )
    },
    **{
        f"length {size:#x} of a {_NAMES[opcode]}": (_length(opcode, 8, size), 1002)
        for opcode, size in product(_DATA, (1 << 63, (1 << 64) - 1))
    },
}

SIZES: Final[Table] = {
    **{
        f"{_NAMES[opcode]} of {size} bytes": (masked(opcode, bytes(size)), 1009)
        for opcode, size in product((1, 2), (MAX_MESSAGE_BYTES + 1, 2 * MAX_MESSAGE_BYTES, 70_000))
    },
    **{
        f"{_NAMES[opcode]} that promises {size:#x} bytes": (_length(opcode, 8, size), 1009)
        for opcode, size in product((1, 2), (1 << 16, 1 << 32, (1 << 63) - 1))
    },
    "two fragments that are too long together": (_fragments(b"x" * 900, b"x" * 101), 1009),
    "a fragment that promises too much": (
        masked(1, b"x" * 900, final=False) + bytes((0, 0x80 | 126, 0, 126)) + bytes(4),
        1009,
    ),
    "65 fragments": (_fragments(*[b"x"] * 65), 1009),
    "65 empty fragments": (_fragments(*[b""] * 65), 1009),
    "empty fragments without an end": (
        masked(2, b"", final=False) + masked(0, b"", final=False) * 100,
        1009,
    ),
}

ORDER: Final[Table] = {
    "continuation first": (masked(0, b"x"), 1002),
    "unfinished continuation first": (masked(0, b"x", final=False), 1002),
    "continuation after a message": (masked(2, b"{}") + masked(0, b"x"), 1002),
    "continuation after fragments": (_fragments(b"{", b"}") + masked(0, b"x"), 1002),
    "text inside text": (masked(1, b"a", final=False) + masked(1, b"b"), 1002),
    "binary inside text": (masked(1, b"a", final=False) + masked(2, b"b"), 1002),
    "fragment inside a message": (
        masked(1, b"a", final=False) + masked(1, b"b", final=False),
        1002,
    ),
    "text after a ping inside text": (
        masked(1, b"a", final=False) + masked(9, b"") + masked(1, b"b"),
        1002,
    ),
}

_BAD_TEXT: Final = {
    "start byte ff": b"\xff",
    "start byte fe": b"\xfe",
    "start byte f5": b"\xf5\x80\x80\x80",
    "start byte f8": b"\xf8\x88\x80\x80\x80",
    "stray continuation byte": b"\x80",
    "two stray continuation bytes": b"\xbf\xbf",
    "overlong slash in two bytes": b"\xc0\xaf",
    "overlong slash in three bytes": b"\xe0\x80\xaf",
    "overlong slash in four bytes": b"\xf0\x80\x80\xaf",
    "overlong NUL": b"\xc0\x80",
    "overlong 7f": b"\xc1\xbf",
    "overlong 7ff": b"\xe0\x9f\xbf",
    "overlong ffff": b"\xf0\x8f\xbf\xbf",
    "high surrogate": b"\xed\xa0\x80",
    "low surrogate": b"\xed\xbf\xbf",
    "pair of surrogates": b"\xed\xa0\xbd\xed\xb8\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "cut after one of two": b"\xc3",
    "cut after two of three": b"\xe2\x82",
    "cut after three of four": b"\xf0\x9f\x98",
    "continuation byte missing": b"\xe2\x82a",
}
TEXT: Final[Table] = {
    **{f"{name}, whole": (masked(1, b"a" + bad), 1007) for name, bad in _BAD_TEXT.items()},
    **{
        f"{name}, in fragments": (_fragments(b"a" + bad[:1], bad[1:], b"a"), 1007)
        for name, bad in _BAD_TEXT.items()
    },
}

CLOSES: Final[Table] = {
    **{
        f"code {code}": (masked(8, code.to_bytes(2, "big")), 1002)
        for code in (
            *(0, 1, 100, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2500, 2999),
            *(5000, 5001, 10_000, 32_768, 65_535),
        )
    },
    "half a code": (masked(8, b"\x03"), 1002),
    **{f"reason: {name}": (masked(8, b"\x03\xe8" + bad), 1007) for name, bad in _BAD_TEXT.items()},
    "bad code and bad reason": (masked(8, b"\x00\x00\xff"), 1002),
}

# No fault of the client's: the answer is its own code, or 1000.
GOOD_CLOSES: Final[Table] = {
    **{
        f"code {code}": (masked(8, code.to_bytes(2, "big") + b"bye"), code)
        for code in (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999)
    },
    "no code": (masked(8, b""), 1000),
    "two close frames": (masked(8, b"\x03\xe9") + masked(8, b"\x03\xe8"), 1001),
    "violation behind a close frame": (masked(8, b"\x03\xe9") + masked(3, b""), 1001),
    "text behind a close frame": (masked(8, b"\x03\xe9") + masked(1, b"{}"), 1001),
    "close frame inside a message": (masked(1, b"{", final=False) + masked(8, b"\x0f\xa0"), 4000),
}


def _compressed(payload: bytes, opcode: int = 1) -> bytes:
    return masked(opcode, payload, reserved=4)


def _halves(payload: bytes) -> bytes:
    half = len(payload) // 2
    return masked(1, payload[:half], final=False, reserved=4) + masked(0, payload[half:])


_HELLO: Final = deflate(b"hello, world")
_LAST: Final = zlib.compressobj(wbits=-15)
_BACK: Final = zlib.compressobj(wbits=-15, zdict=b"a" * 100)
_BAD_DEFLATE: Final = {
    "nothing at all": (b"", 1007),
    "no deflate data": (b"\xff\xff\xff", 1007),
    "reserved block type": (b"\x07", 1007),
    "half of a message": (_HELLO[:-3], 1007),
    "stored block with a wrong complement": (b"\x00\x05\x00\x00\x00hello", 1007),
    "stored block that is cut": (b"\x00\x05\x00\xfa\xffhel", 1007),
    "reference before the beginning": (_BACK.compress(b"a" * 100) + _BACK.flush(), 1007),
    "bytes after a last block": (_LAST.compress(b"{}") + _LAST.flush() + b"\xff\xff", 1007),
    "bomb": (deflate(bytes(1_001)), 1009),
    "bomb of 10 MB": (deflate(bytes(10_000_000)), 1009),
    "compressed form that is too long": (bytes(1_001), 1009),
    "text that is not UTF-8": (deflate(b"\xff"), 1007),
    "text that is cut": (deflate(b"a\xe2\x82"), 1007),
    "65 last blocks": (b"\x01\x00\x00\xff\xff" * 65, 1007),
}
DEFLATE: Final[Table] = {
    **{f"{name}, whole": (_compressed(data), code) for name, (data, code) in _BAD_DEFLATE.items()},
    **{f"{name}, in halves": (_halves(data), code) for name, (data, code) in _BAD_DEFLATE.items()},
    **{
        f"compression bit of a {_NAMES[opcode]}": (masked(opcode, b"", reserved=4), 1002)
        for opcode in (0, *_CONTROL)
    },
    "compression bit of a second fragment": (
        masked(1, _HELLO[:4], final=False, reserved=4) + masked(0, _HELLO[4:], reserved=4),
        1002,
    ),
    **{
        f"reserved bits {bits:03b} with compression": (masked(1, _HELLO, reserved=bits), 1002)
        for bits in (1, 2, 3, 5, 6, 7)
    },
}
