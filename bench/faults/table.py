"""The results as a table for people: one row per class and broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.faults.fault import Fault
from bench.faults.world import Outcome

_HEADINGS: Final = (
    "class",
    "fault",
    "expected",
    "broker",
    "injected",
    "clients × frames checked",
    "gaps",
    "duplicates",
    "reorderings",
    "told losses",
    "worst silence, s",
    "worst time to all live, s",
    "result",
)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one class on one broker. skipped: why it was not run."""

    fault: Fault
    broker: str
    outcomes: Sequence[Outcome] = ()
    skipped: str | None = None

    @property
    def problems(self) -> list[str]:
        """Everything that was wrong, each with its injection."""
        return [
            f"{self.fault.name} on {self.broker}, "
            f"{'at the end' if one.repetition < 0 else f'injection {one.repetition}'}: {problem}"
            for one in self.outcomes
            for problem in one.problems
        ]

    def row(self) -> list[str]:
        """The cells of its row."""
        injected = [one for one in self.outcomes if one.repetition >= 0]
        about = [str(self.fault.number), self.fault.title, self.fault.expected, self.broker]
        if self.skipped is not None:
            return [*about, "0", *[""] * 7, f"skipped: {self.skipped}"]
        frames = sum(one.frames for one in self.outcomes)
        counts = [
            sum(getattr(one, name) for one in self.outcomes)
            for name in ("gaps", "duplicates", "reorderings", "told")
        ]
        return [
            *about,
            str(len(injected)),
            f"{max((one.clients for one in self.outcomes), default=0)} × {frames:,}",
            *map(str, counts),
            f"{max((one.silence for one in injected), default=0):.2f}",
            f"{max((one.all_live for one in injected), default=0):.2f}",
            "failed" if self.problems else "passed",
        ]


def markdown(results: Sequence[Result]) -> str:
    """A table in Markdown."""
    rows = [_HEADINGS, ["---"] * len(_HEADINGS), *(result.row() for result in results)]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows
    )
