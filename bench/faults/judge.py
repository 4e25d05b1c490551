"""Checks the clients' reports: is each missing record gone, and did its client get a Gap for it?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from bench.faults.verdict import Facts, Losses, Verdict

# A different log: positions before and after it cannot be compared.
EPOCH_CHANGED: Final = "EPOCH_CHANGED"
# Problems beyond this number are only counted.
_MOST_PROBLEMS: Final = 20


def judge(
    verdict: Verdict,
    seen: dict[str, Any],
    facts: Facts,
    removed: Sequence[Collection[int]],
    losses: Losses,
) -> None:
    """Add a crowd's report to a verdict. removed: the numbers no longer in the broker's log."""
    for failure in seen["failures"]:
        _judge_client(verdict, failure, facts, removed, losses)
    shorten(verdict)


def shorten(verdict: Verdict) -> None:
    """Keep the first problems, and the number of the others."""
    if (more := len(verdict.problems) - _MOST_PROBLEMS) > 0:
        verdict.problems[_MOST_PROBLEMS:] = [f"and {more} more"]


def _judge_client(
    verdict: Verdict,
    failure: dict[str, Any],
    facts: Facts,
    removed: Sequence[Collection[int]],
    losses: Losses,
) -> None:
    client = f"client {failure['client']}"
    problems = verdict.problems
    verdict.duplicates += len(failure["duplicates"])
    verdict.reorderings += len(failure["reorderings"])
    verdict.corrupt += len(failure["corrupt"])
    verdict.reported += sum(not gap["known"] for gap in failure["reported"])
    problems += [f"{client}, partition {p}: {n} came again" for p, n in failure["duplicates"]]
    problems += [f"{client}, partition {p}: {n} came late" for p, n in failure["reorderings"]]
    problems += [f"{client}: {text}" for text in failure["corrupt"]]
    if failure["refused"]:
        problems.append(f"{client} ended: {failure['refused']}")
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
        where = f"{client}, partition {partition}: {hole['first']} to {hole['past'] - 1} missing"
        offsets = facts.offsets[partition]
        gaps = {place: failure["reported"][place] for place in hole["reported"]}
        # Several Gaps in a row may report one hole, each more of it.
        used.update(
            place for place, gap in gaps.items() if _covers(gap, offsets[numbers[0]], partition)
        )
        covering = any(_covers(gap, offsets[numbers[-1]], partition) for gap in gaps.values())
        there = [n for n in numbers if n not in removed[partition]]
        if not covering:
            verdict.gaps += len(numbers)
            problems.append(f"{where}, and no Gap reported it")
        elif there:
            verdict.gaps += len(there)
            problems.append(f"{where}; a Gap reported it, but the log still has {there[0]}")
    for place, gap in enumerate(failure["reported"]):
        received = f"{client} received a Gap {gap['reason']} (missed {gap['missed']})"
        if gap["reason"] not in losses.reasons:
            problems.append(f"{received}, which this class does not allow")
        elif place not in used and not gap["pending"] and gap["reason"] != EPOCH_CHANGED:
            problems.append(f"{received}, but missed nothing there")
    counts = [gap["missed"] for gap in failure["reported"]]
    settled = not any(gap["pending"] for gap in failure["reported"])
    if losses.counted and settled and counts and None not in counts and sum(counts) != missing:
        problems.append(f"{client}: its Gaps count {sum(counts)} missing records, not {missing}")


def _covers(gap: dict[str, Any], offset: int | None, partition: int) -> bool:
    """Whether a Gap extends past the record at `offset`."""
    if gap["reason"] == EPOCH_CHANGED or gap["offsets"] is None:
        return True
    return (
        offset is not None
        and partition < len(gap["offsets"])
        and gap["offsets"][partition] > offset
    )
