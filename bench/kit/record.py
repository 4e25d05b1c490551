"""The numbered record that every measurement sends; its fields have fixed widths, for cheap checks.

{"p":0,"n":00000042,"t":1795447307123456,…}: partition, a dense number per partition, and the
microseconds since the Unix epoch at which it was written. They are strings, since JSON has no
numbers with leading zeros.
"""

from __future__ import annotations

import time
from typing import Final

import orjson

from energyws.demo.meter import Meter

PARTITIONS: Final = 3
# Positions of the fields in a record, and of the record in a frame of the stream "energy".
P_AT: Final = len('{"p":"')
N_AT: Final = len('{"p":"0","n":"')
N_DIGITS: Final = 8
T_AT: Final = N_AT + N_DIGITS + len('","t":"')
T_DIGITS: Final = 16
ENVELOPE: Final = len(
    '{"type":"data","stream":"energy","timestamp":"2026-01-01T00:00:00.000Z","data":'
)
STAMP_AT: Final = len('{"type":"data","stream":"energy","timestamp":"')
# The bytes that follow the record in a frame, with the position of a typical run.
TAIL: Final = len(',"id":"01234567-1000.1000.1000"}')


def head(partition: int, number: int) -> bytes:
    """The checked fields, without the closing bracket."""
    return b'{"p":"%d","n":"%08d","t":"%016d"' % (partition, number, time.time_ns() // 1000)


def padded(partition: int, number: int, frame_bytes: int) -> bytes:
    """A record whose frame has a payload of about `frame_bytes`, envelope included."""
    start = head(partition, number) + b',"pad":"'
    missing = frame_bytes - ENVELOPE - TAIL - len(start) - 2
    return start + b"x" * max(0, missing) + b'"}'


class RealRecords:
    """Records of a simulated meter (1,047 bytes, as in production), after the checked fields."""

    def __init__(self) -> None:
        reading = orjson.loads(Meter(1).record(time.time_ns()))
        # Removed to make room for the checked fields; no measurement uses them.
        for key in ("timestamp", "meterSerialNumber", "ts"):
            del reading[key]
        self._rest = b"," + orjson.dumps(reading)[1:]

    def build(self, partition: int, number: int) -> bytes:
        """A record, within a few bytes of the real one's size."""
        return head(partition, number) + self._rest
