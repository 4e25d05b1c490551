"""Random streams of frames, most of them nearly right."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

_TEXTS = ("", "a", "meter 17", "é日😀" * 5, "x" * 300, "\x00", '{"type":"ping"}')
# Cut inside characters, overlong, surrogates, beyond U+10FFFF.
_BYTES = (b"\xff", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80", b"\xc3")
_CODES = (0, 999, 1000, 1001, 1003, 1004, 1005, 1006, 1007, 1011, 1014, 1015, 2999, 3000, 4999)
_CODES_TOO = (1002, 1008, 1009, 1010, 1012, 1013, 1016, 5000, 65535)


def stream(chance: random.Random, *, deflate: bool) -> bytes:
    """One to six frames; now and then with a byte changed, or cut off."""
    data = b"".join(_frames(chance, deflate) for _ in range(chance.randint(1, 6)))
    if chance.random() < 0.2:
        at = chance.randrange(len(data))
        data = data[:at] + bytes((chance.randrange(256),)) + data[at + 1 :]
    if chance.random() < 0.1:
        data = data[: chance.randrange(len(data))]
    return data


def cuts(chance: random.Random, size: int) -> list[int]:
    """Where the network cuts a stream."""
    if size == 0 or chance.random() < 0.5:
        return []
    return sorted(chance.randrange(size) for _ in range(chance.randint(1, 4)))


def _frames(chance: random.Random, deflate: bool) -> bytes:
    kind = chance.random()
    if kind < 0.35:
        return _message(chance, deflate, 1)
    if kind < 0.6:
        return _message(chance, deflate, chance.choice((2, 2, 3, 4)))
    if kind < 0.62:
        return _message(chance, deflate, 66)
    if kind < 0.8:
        return _frame(chance, chance.choice((9, 10)), chance.randbytes(chance.choice((0, 4, 125))))
    if kind < 0.88:
        return _frame(chance, 8, _close(chance))
    return _odd(chance)


def _message(chance: random.Random, deflate: bool, parts: int) -> bytes:
    opcode = chance.choice((1, 1, 2))
    payload = chance.choice(_TEXTS).encode()
    if chance.random() < 0.15:
        payload += chance.choice(_BYTES) + payload[:3]
    if chance.random() < 0.1:
        payload *= chance.choice((2, 4, 40))
    reserved = 0
    if deflate and chance.random() < 0.7:
        reserved = 4
        compressor = zlib.compressobj(wbits=-15)
        payload = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        payload = payload.removesuffix(b"\0\0\xff\xff")
        if chance.random() < 0.05:
            payload = chance.randbytes(len(payload))
    places = sorted(chance.randint(0, len(payload)) for _ in range(parts - 1))
    data = b""
    for number, (begin, end) in enumerate(zip([0, *places], [*places, len(payload)], strict=True)):
        last = number == parts - 1
        data += _frame(
            chance,
            0 if number else opcode,
            payload[begin:end],
            final=last,
            reserved=0 if number else reserved,
        )
        if not last and chance.random() < 0.1:
            data += _frame(chance, 9, b"between")
    return data


def _close(chance: random.Random) -> bytes:
    if chance.random() < 0.15:
        return chance.choice((b"", b"\x03", b"\x03\xe8\xff", b"\x03\xe8\xe2\x82"))
    code = chance.choice(_CODES + _CODES_TOO)
    return code.to_bytes(2, "big") + chance.choice(_TEXTS)[:40].encode()


def _odd(chance: random.Random) -> bytes:
    odd: Callable[[], bytes] = chance.choice(
        (
            lambda: _frame(chance, chance.randrange(16), b"odd"),
            lambda: _frame(chance, 1, b"odd", reserved=chance.randrange(1, 8)),
            lambda: _frame(chance, chance.choice((8, 9, 10)), b"x", final=False),
            lambda: _frame(chance, 9, bytes(126)),
            lambda: _frame(chance, 0, b"continues nothing"),
            lambda: _frame(chance, 1, b"not masked", mask=False),
            lambda: _frame(chance, 2, b"x", width=chance.choice((2, 8))),
            lambda: _frame(chance, 2, bytes(chance.choice((999, 1000, 1001, 2000)))),
            lambda: b"\x82\xff" + chance.randbytes(8) + bytes(4),
            lambda: chance.randbytes(chance.randint(1, 12)),
        )
    )
    return odd()


def _frame(
    chance: random.Random,
    opcode: int,
    payload: bytes,
    *,
    final: bool = True,
    reserved: int = 0,
    mask: bool = True,
    width: int = 0,
) -> bytes:
    """width: of a length in bytes, where it is not the least one."""
    first = (0x80 if final else 0) | reserved << 4 | opcode
    size, bit = len(payload), 0x80 if mask else 0
    width = width or (0 if size < 126 else 2 if size < 1 << 16 else 8)
    if width == 0:
        head = bytes((first, bit | size))
    elif width == 2:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not mask:
        return head + payload
    key = chance.choice((bytes(4), chance.randbytes(4)))
    return head + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
