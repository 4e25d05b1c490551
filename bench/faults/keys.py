"""The keys of records, and the keys that each keyed client may read."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from bench.kit.record import PARTITIONS

# Where the service finds a record's key.
POINTER: Final = "/k"
# Every client has this key, so that a record with it reaches all of them.
BEACON: Final = "everybody"
# Some begin with others, and some need escapes in JSON.
METERS: Final = tuple(
    [f"m{number}" for number in range(40)]
    + [f'm{number}"\\å' for number in range(10)]
    + [f"z/{number}" for number in range(10)]
)
_MOST_KEYS: Final = 5
# Some of their records supersede others, and a class need not wait for the last one for long.
MAX_RATE: Final = 4.0
# Of a client whose keys change: more than it ever needs in a run.
_SETS: Final = 40


def meter(partition: int, number: int) -> str:
    """The key of a record of the steady traffic; each is in one partition only, so in order."""
    own = METERS[partition::PARTITIONS]
    return own[zlib.crc32(b"%d.%d" % (partition, number)) % len(own)]


def allowed(names: list[str]) -> frozenset[str]:
    """The keys that these names of a token or a request stand for."""
    return frozenset(
        key
        for key in (*METERS, BEACON)
        for name in names
        if key == name or (name.endswith("*") and key.startswith(name[:-1]))
    )


@dataclass(frozen=True, slots=True)
class Seat:
    """What one keyed client has. claims: the keys of its tokens, one for each connection in turn.

    asks: the keys that it asks for; None: all that its token has. snapshot: it asks for the newest
    record of each, too. max_rate: it takes the newest of each at most so many times a second.
    """

    claims: list[list[str]]
    asks: list[str] | None = None
    snapshot: bool = False
    max_rate: float | None = None

    def keys(self, turn: int) -> list[str]:
        """Those of its connection with this number, from 0, as in `allowed`."""
        return self.asks or self.claims[turn % len(self.claims)]


def _seat(number: int, rng: random.Random) -> Seat:
    """The seat with this number: every fifth has the same kind of keys."""
    seat = replace(_with_keys(number, rng), snapshot=number % 3 == 0)
    return replace(seat, max_rate=MAX_RATE) if number % 4 == 1 else seat


def _with_keys(number: int, rng: random.Random) -> Seat:
    few = [[BEACON, *rng.sample(METERS, rng.randint(1, _MOST_KEYS))] for _ in range(_SETS)]
    match number % 5:
        case 0:
            return Seat(few[:1])
        case 1 | 2:
            return Seat(few)
        case 3:
            return Seat([[BEACON, f"m{number % 10}*", rng.choice(METERS)]])
        case _:
            return Seat([rng.choice((["*"], few[0]))], few[0][:2])


def seats(count: int, mint: Callable[[str, list[str]], str]) -> list[tuple[Seat, list[str]]]:
    """Seats with their tokens; mint: makes one from a subject and the keys that it may read."""
    # A run's seed is for its faults: the seats are the same in all runs.
    rng = random.Random(count)
    found = [_seat(number, rng) for number in range(count)]
    return [
        (seat, [mint(f"keyed-{number}", keys) for keys in seat.claims])
        for number, seat in enumerate(found)
    ]


def section(topic: str) -> dict[str, Any]:
    """The configuration of the stream, on this topic, in which each client has its own keys."""
    # From the first record on.
    snapshot = {"enabled": True, "lookback_seconds": None}
    return {"energy": {"topic": topic, "key": POINTER, "access": "keyed", "snapshot": snapshot}}
