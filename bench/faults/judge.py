"""From the clients' reports to a verdict: is each missing record gone, and was its client told?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from bench.faults.verdict import Facts, Losses, Verdict

# Another log altogether: the position after it does not compare with the one before it.
EPOCH_CHANGED: Final = "EPOCH_CHANGED"
# Of more problems than this, only the number is of interest.
_MOST_PROBLEMS: Final = 20


def judge(
    verdict: Verdict,
    seen: dict[str, Any],
    facts: Facts,
    removed: Sequence[Collection[int]],
    losses: Losses,
) -> None:
    """Add a crowd's report to a verdict. removed: the numbers that the broker no longer has."""
    for failure in seen["failures"]:
        _judge_client(verdict, failure, facts, removed, losses)
    if (more := len(verdict.problems) - _MOST_PROBLEMS) > 0:
        verdict.problems[_MOST_PROBLEMS:] = [f"and {more} more"]


def _judge_client(
    verdict: Verdict,
    failure: dict[str, Any],
    facts: Facts,
    removed: Sequence[Collection[int]],
    losses: Losses,
) -> None:
    who = f"client {failure['client']}"
    problems = verdict.problems
    verdict.duplicates += len(failure["duplicates"])
    verdict.reorderings += len(failure["reorderings"])
    verdict.corrupt += len(failure["corrupt"])
    verdict.told += sum(not told["known"] for told in failure["told"])
    problems += [f"{who}, partition {p}: {n} came again" for p, n in failure["duplicates"]]
    problems += [f"{who}, partition {p}: {n} came late" for p, n in failure["reorderings"]]
    problems += [f"{who}: {text}" for text in failure["corrupt"]]
    if failure["refused"]:
        problems.append(f"{who} ended: {failure['refused']}")
    missing = 0
    used: set[int] = set()
    for hole in failure["holes"]:
        partition = hole["partition"]
        numbers = [
            n for n in range(hole["first"], hole["past"]) if n not in facts.unwritten[partition]
        ]
        if not numbers:
            continue
        missing += len(numbers)
        where = f"{who}, partition {partition}: {hole['first']} to {hole['past'] - 1} missing"
        covering = [
            place
            for place in hole["told"]
            if _covers(failure["told"][place], facts.offsets[partition][numbers[-1]], partition)
        ]
        used.update(covering)
        there = [n for n in numbers if n not in removed[partition]]
        if not covering:
            verdict.gaps += len(numbers)
            problems.append(f"{where}, and it was not told")
        elif there:
            verdict.gaps += len(there)
            problems.append(f"{where}; it was told, but the log still has {there[0]}")
    for place, told in enumerate(failure["told"]):
        said = f"{who} was told {told['reason']} (missed {told['missed']})"
        if told["reason"] not in losses.reasons:
            problems.append(f"{said}, which must not be")
        elif place not in used and not told["pending"] and told["reason"] != EPOCH_CHANGED:
            problems.append(f"{said}, but missed nothing there")
    counts = [told["missed"] for told in failure["told"]]
    settled = not any(told["pending"] for told in failure["told"])
    if losses.counted and settled and counts and None not in counts and sum(counts) != missing:
        problems.append(f"{who} was told of {sum(counts)} missing records; it lacks {missing}")


def _covers(told: dict[str, Any], offset: int | None, partition: int) -> bool:
    """Whether a Gap reaches beyond the last missing record of a hole."""
    if told["reason"] == EPOCH_CHANGED or told["offsets"] is None:
        return True
    return (
        offset is not None
        and partition < len(told["offsets"])
        and told["offsets"][partition] > offset
    )
