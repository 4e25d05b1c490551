"""Random changes to good inputs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_NUMBERS: Final = (b"0", b"-1", b"1e999", b"9223372036854775808", b"00", b"65536", b"1" * 400)


def corpus(target: str) -> list[bytes]:
    """The good inputs of a target, one per line, with Python's escapes."""
    text = (Path(__file__).with_name("corpus") / f"{target}.txt").read_text()
    return [
        line.encode().decode("unicode_escape").encode("latin-1")
        for line in text.splitlines()
        if not line.startswith("#")
    ]


def mutated(chance: random.Random, inputs: Sequence[bytes]) -> bytes:
    """One of the inputs, changed in one to four places."""
    data = bytearray(chance.choice(inputs))
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change(chance, data, inputs)
    return bytes(data)


def _change(chance: random.Random, data: bytearray, inputs: Sequence[bytes]) -> None:
    at = chance.randint(0, len(data))
    end = min(len(data), at + chance.choice((1, 1, 2, 8, 40)))
    match chance.randrange(7):
        case 0 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 1 if at < len(data):
            data[at] = chance.randrange(256)
        case 2:
            del data[at:end]
        case 3:
            data[at:at] = data[at:end] * chance.choice((1, 2, 50))
        case 4:
            data[at:at] = chance.randbytes(chance.choice((1, 2, 8)))
        case 5:
            other = chance.choice(inputs)
            begin = chance.randint(0, len(other))
            data[at:end] = other[begin : begin + chance.choice((1, 4, 40, 400))]
        case _:
            data[at:end] = chance.choice(_NUMBERS)
