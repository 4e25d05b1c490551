"""The results as a Markdown table, one row per class and broker.

python -m bench.faults.table results.json … --into docs/reliability.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from bench.faults.classes import FAULTS
from bench.faults.fault import Fault
from bench.faults.verdict import Outcome

# The page has the table between these marks.
BEGIN: Final = "<!-- faults: begin -->"
END: Final = "<!-- faults: end -->"

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
    "reported losses",
    "worst silence, s",
    "all live after, s",
    "result",
)


@dataclass(frozen=True, slots=True)
class Result:
    """The outcomes of one class on one broker. skipped: why it did not run."""

    fault: Fault
    broker: str
    outcomes: Sequence[Outcome] = ()
    skipped: str | None = None

    @property
    def problems(self) -> list[str]:
        """Every problem, with its injection."""
        return [
            f"{self.fault.name} on {self.broker}, "
            f"{'at the end' if one.repetition < 0 else f'injection {one.repetition}'}: {problem}"
            for one in self.outcomes
            for problem in one.problems
        ]

    @property
    def io_uring(self) -> str:
        """Everything that workers said about it, at the ends of the injections."""
        return " / ".join(sorted({one.io_uring for one in self.outcomes if one.io_uring}))

    def row(self) -> list[str]:
        injected = [one for one in self.outcomes if one.repetition >= 0]
        about = [str(self.fault.number), self.fault.title, self.fault.expected, self.broker]
        if self.skipped is not None:
            return [*about, "0", *[""] * 7, f"skipped: {self.skipped}"]
        frames = sum(one.frames for one in self.outcomes)
        counts = [
            sum(getattr(one, name) for one in self.outcomes)
            for name in ("gaps", "duplicates", "reorderings", "reported")
        ]
        sse = sse_silence = ""
        if events := self._most("sse_clients", self.outcomes):
            sse_frames = sum(one.sse_frames for one in self.outcomes)
            sse = f", {events:.0f} × {sse_frames:,} of them SSE"
            sse_silence = f", SSE {self._most('sse_silence', injected):.2f}"
        keyed = ""
        if some := self._most("keyed_clients", self.outcomes):
            keyed_frames = sum(one.keyed_frames for one in self.outcomes)
            keyed = f", {some:.0f} × {keyed_frames:,} with keys of their own"
        return [
            *about,
            str(len(injected)),
            f"{self._most('clients', self.outcomes):.0f} × {frames:,}{sse}{keyed}",
            *map(str, counts),
            f"{self._most('silence', injected):.2f}{sse_silence}",
            f"{self._most('all_live', injected):.2f}",
            "failed" if self.problems else "passed",
        ]

    @staticmethod
    def _most(name: str, outcomes: Sequence[Outcome]) -> float:
        return max((float(getattr(one, name)) for one in outcomes), default=0.0)


def markdown(results: Sequence[Result]) -> str:
    outcomes = [one for result in results for one in result.outcomes]
    injected = sum(one.repetition >= 0 for one in outcomes)
    frames = sum(one.frames for one in outcomes)
    sse_frames = sum(one.sse_frames for one in outcomes)
    over_sse = f" ({sse_frames:,} of them over SSE)" if sse_frames else ""
    keyed = any(one.keyed_clients for one in outcomes)
    faults = {
        name: sum(getattr(one, name) for one in outcomes)
        for name in ("gaps", "duplicates", "reorderings", "corrupt", *["foreign"] * keyed)
    }
    failed = sum(bool(one.problems) for one in outcomes if one.repetition >= 0)
    rows = [_HEADINGS, ["---"] * len(_HEADINGS), *(result.row() for result in results)]
    return (
        f"{injected:,} faults injected, {frames:,} frames checked{over_sse}: "
        f"{', '.join(f'{count} {name}' for name, count in faults.items())}; "
        f"{failed} injections did not pass.\n\n"
    ) + "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows
    )


def insert(page: str, table: str) -> str:
    """The page with the table between its marks; raises ValueError if it lacks them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the marks for the table: {BEGIN} … {END}")
    return f"{before}{begin}\n{table}{end}{after}"


def load(document: dict[str, Any]) -> list[Result]:
    """The results from a file that a run wrote."""
    return [
        Result(
            FAULTS[one["name"]],
            one["broker"],
            [Outcome(**outcome) for outcome in one["outcomes"]],
            one["skipped"],
        )
        for one in document["results"]["classes"]
    ]


def _command(arguments: list[str]) -> str:
    """The command as shown to readers, without a long --only: classes do not affect each other."""
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    kept = [
        f"{name} {value}"
        for name, value in pairs
        if name not in ("--out", "--markdown") and not (name == "--only" and value.count(",") > 5)
    ]
    return " ".join(["python -m bench.faults", *kept])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.faults.table", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="files written with --out")
    parser.add_argument("--into", type=Path, help="a page with marks; default: standard output")
    options = parser.parse_args()
    documents = [orjson.loads(path.read_bytes()) for path in options.results]
    results = [result for document in documents for result in load(document)]
    results.sort(key=lambda result: (result.fault.number, result.fault.name, result.broker))
    commands = sorted({_command(document["command"][1:]) for document in documents})
    table = "".join(f"    {command}\n" for command in commands) + "\n" + markdown(results)
    if options.into is None:
        print(table, end="")
    else:
        options.into.write_text(insert(options.into.read_text(), f"\n{table}\n"))


if __name__ == "__main__":
    main()
