"""The record of the fault runs: the numbered fields of bench.kit.record, a key and a checksum."""

from __future__ import annotations

import zlib
from typing import Any, Final

import orjson

from bench.kit.record import head

_CHECKSUM: Final = len(',"pad":"","crc":"01234567"}')
_CHECKED: Final = ("p", "n", "t", "k", "pad")


def build(partition: int, number: int, size: int, key: str) -> bytes:
    """A record of at least `size` bytes; longer only if its fields need more."""
    fields = head(partition, number)
    values = b"".join(fields.split(b'"')[3::4]) + key.encode()
    fields += b',"k":%b' % orjson.dumps(key)
    pad = b"x" * (size - len(fields) - _CHECKSUM)
    # Over the values, not the text, since clients see only the decoded values.
    checksum = zlib.crc32(values + pad)
    return fields + b',"pad":"' + pad + b'","crc":"%08x"}' % checksum


def check(data: dict[str, Any]) -> tuple[int, int]:
    """Partition and number of a decoded record; raises ValueError if it was altered."""
    try:
        values = [data[name] for name in _CHECKED]
        checksum = f"{zlib.crc32(''.join(values).encode()):08x}"
        if checksum == data["crc"]:
            return int(values[0]), int(values[1])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a record of this run: {str(data)[:200]}") from error
    raise ValueError(f"checksum {data['crc']}, but computed {checksum}: {str(data)[:200]}")
