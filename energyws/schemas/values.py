"""Values that JSON does not have, as those who read JSON expect them."""

from __future__ import annotations

import re
from base64 import b64encode
from ctypes import c_float
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from math import isfinite, nan
from typing import Final

from energyws.errors import EnergywsError

NANOSECONDS: Final = 1_000_000_000
# In place of what JSON cannot express, a number or not: orjson writes it as null, and
# `inexpressible` counts it.
NOTHING: Final = nan
_EPOCH: Final = datetime(1970, 1, 1)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_DAY_SECONDS: Final = 86_400
# More digits than any measure has; one of a hostile schema could ask for gigabytes of zeros.
MAX_SCALE: Final = 1000
_MAX_SHOWN: Final = 200
_UNPRINTABLE: Final = re.compile(r"[^ -~]+")


class BadSchema(EnergywsError):
    """A schema with which no record can be decoded; the message says why, for operators."""

    def __init__(self, reason: str) -> None:
        super().__init__(shown(reason))


def shown(reason: str) -> str:
    """What outsiders wrote, as operators may see it: short, and without control characters."""
    return _UNPRINTABLE.sub(" ", reason[:_MAX_SHOWN])


def float32(value: float) -> float:
    """The number with the fewest digits that is this one in single precision.

    0.1 in four bytes is 0.10000000149011612 in eight, which no producer has meant.
    """
    if not isfinite(value):
        return value
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if c_float(short).value == value:
            return short
    return float(f"{value:.9g}")


def inexpressible(value: object, text: bytes) -> int:
    """How many numbers in a value are NaN or infinite; iterative, since values may be nested.

    text: its JSON.
    """
    # Three times as fast as `in` or `find`: nearly all records have none.
    if text.rfind(b"null") < 0:
        return 0
    count, pending = 0, [value]
    while pending:
        each = pending.pop()
        if isinstance(each, float):
            count += not isfinite(each)
        elif isinstance(each, dict):
            pending.extend(each.values())
        elif isinstance(each, list):
            pending.extend(each)
    return count


def base64(data: bytes) -> str:
    return b64encode(data).decode()


def decimal(unscaled: bytes, scale: int) -> str:
    """All digits of a decimal; unscaled: big-endian, in two's complement. Raises ValueError for
    one of some thousand digits."""
    number = int.from_bytes(unscaled, "big", signed=True)
    return format(Decimal(f"{number}e{-scale}"), "f")


def instant(nanoseconds: int, zone: str = "Z") -> str | None:
    """RFC 3339 of a time since 1970, with as many digits as it needs; None before year 1 or after
    9999, which RFC 3339 cannot express."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    text = _second(seconds)
    return None if text is None else f"{text}{fraction(rest)}{zone}"


@lru_cache(1024)
def _second(seconds: int) -> str | None:
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return None


def day(days: int) -> str | None:
    """The date so many days after 1970-01-01; None as for `instant`."""
    try:
        return date.fromordinal(_EPOCH_DAY + days).isoformat()
    except (OverflowError, ValueError):
        return None


def time_of_day(nanoseconds: int) -> str | None:
    """HH:MM:SS and a fraction; None for what is no time of a day."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    if not 0 <= seconds < _DAY_SECONDS:
        return None
    minutes, second = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{second:02}{fraction(rest)}"


def fraction(nanoseconds: int) -> str:
    """The fraction of a second with 0, 3, 6 or 9 digits, as ProtoJSON writes it."""
    if not nanoseconds:
        return ""
    text = f".{nanoseconds:09}"
    return text if nanoseconds % 1000 else text[:7] if nanoseconds % 1_000_000 else text[:4]
