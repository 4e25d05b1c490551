"""One piece of a run: some inputs of one target, which its seed determines."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from bench.fuzz import oracle, streams
from bench.fuzz.javascript import differences
from bench.fuzz.mutation import corpus, mutated
from bench.fuzz.session import Sessions
from bench.fuzz.targets import TARGETS, TOKEN

STREAMS: Final = "streams"
JAVASCRIPT: Final = "javascript"
# The inputs of a long run.
INPUTS: Final = {
    **{name: inputs for name, (_, inputs) in TARGETS.items()},
    STREAMS: 1_000_000,
    JAVASCRIPT: 200_000,
}
# More say nothing new.
MOST_CRASHES: Final = 20


class Piece(NamedTuple):
    target: str
    seed: int
    number: int
    inputs: int


def inputs(target: str) -> list[bytes]:
    """A target's corpus, with the token where it belongs."""
    return [each.replace(b"TOKEN", TOKEN.encode()) for each in corpus(target)]


def run(piece: Piece) -> dict[str, Any]:
    """What came of it: outcomes, and crashes as error and input."""
    # The worker's own lines about what is wrong.
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    chance = random.Random(f"{piece.target} {piece.seed} {piece.number}")
    outcomes: Counter[str] = Counter()
    crashes: list[dict[str, str]] = []
    for data, outcome in _KINDS.get(piece.target, _decoded)(piece, chance):
        if isinstance(outcome, Exception):
            outcomes["CRASH"] += 1
            if len(crashes) < MOST_CRASHES:
                crashes.append({"error": repr(outcome), "input": escaped(data)})
        else:
            outcomes[outcome] += 1
    return {
        **piece._asdict(),
        "seconds": round(time.monotonic() - began, 1),
        "outcomes": dict(outcomes),
        "crashes": crashes,
    }


def kept(out: Path, piece: Piece) -> dict[str, Any]:
    """The same, from its file in `out` if that is there, else into it."""
    path = out / f"{piece.target}-{piece.seed}-{piece.number}-{piece.inputs}.json"
    if path.exists():
        result: dict[str, Any] = orjson.loads(path.read_bytes())
        return result
    result = run(piece)
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
    return result


def escaped(data: bytes) -> str:
    """As in corpus/."""
    return data.decode("latin-1").encode("unicode_escape").decode("ascii")


_Outcomes = Iterator[tuple[bytes, str | Exception]]


def _decoded(piece: Piece, chance: random.Random) -> _Outcomes:
    target, _ = TARGETS[piece.target]
    good = inputs(piece.target)
    for _ in range(piece.inputs):
        data = mutated(chance, good)
        try:
            outcome: str | Exception = target(data)
        except Exception as error:
            outcome = error
        yield data, outcome


def _streams(piece: Piece, chance: random.Random) -> _Outcomes:
    sessions = Sessions()
    for _ in range(piece.inputs):
        deflate = chance.random() < 0.3
        data = streams.stream(chance, deflate=deflate)
        cuts = streams.cuts(chance, len(data))
        try:
            outcome: str | Exception = compared(sessions, data, cuts, deflate=deflate)
        except Exception as error:
            outcome = error
        yield bytes((deflate,)) + data, outcome


def compared(sessions: Sessions, data: bytes, cuts: list[int], *, deflate: bool) -> str:
    """`same`, or the reason for a difference; AssertionError for one without a reason."""
    ours = sessions.run(data, cuts, deflate=deflate)
    verdict = oracle.run(data, deflate=deflate)
    if ours == verdict.end:
        return "same"
    why = oracle.explanation(data, ours, verdict, deflate=deflate)
    assert why is not None, f"cut at {cuts}: {ours} and {verdict.end}"
    return why


def _javascript(piece: Piece, chance: random.Random) -> _Outcomes:
    good = inputs("position")
    pairs = []
    for _ in range(piece.inputs):
        known = chance.choice(good) if chance.random() < 0.5 else mutated(chance, good)
        pairs.append((known.decode("latin-1"), mutated(chance, good).decode("latin-1")))
    wrong = differences(pairs)
    for at, pair in enumerate(pairs):
        data = " ".join(pair).encode("latin-1")
        yield data, AssertionError(wrong[at]) if at in wrong else "same"


_KINDS: Final[dict[str, Callable[[Piece, random.Random], _Outcomes]]] = {
    STREAMS: _streams,
    JAVASCRIPT: _javascript,
}
