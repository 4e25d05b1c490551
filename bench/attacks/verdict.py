"""What honest clients noticed of an attack: figures, and what is wrong with them. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.attacks.attack import Attack
from bench.kit.measuring import percentile

# p99 of honest clients during the attack, in parts of that without it.
MOST_RATIO: Final = 1.5
NEWCOMER_SECONDS: Final = 1.0
MIB: Final = 1 << 20
_KINDS: Final = ("pong", "newcomer", "resume", "operator")

Figures = dict[str, float]


@dataclass(slots=True, kw_only=True)
class Window:
    """Some seconds of a trial.

    delays: microseconds from writing a record to receiving it, over all honest clients. took:
    seconds of each kind of probe. cpu: CPU seconds of the workers.
    """

    seconds: float
    delays: Sequence[int]
    took: Mapping[str, Sequence[float]]
    cpu: float

    @property
    def p99(self) -> float:
        """Milliseconds; without any delivery, at least as long as the window."""
        return percentile(self.delays, 0.99) / 1000 if self.delays else 1000 * self.seconds


@dataclass(slots=True, kw_only=True)
class Reading:
    """What the workers hold. memory: bytes of RSS. kernel: bytes in the buffers of their sockets,
    None if that cannot be read. descriptors: open files.
    """

    memory: int
    kernel: int | None
    descriptors: int


@dataclass(slots=True, kw_only=True)
class Trial:
    """One attack on one service.

    recovery: from the end of the attack until every honest client has every record. lost: how
    often a client that stays lost its connection. replaced: workers that ended meanwhile.
    """

    calm: list[Window]
    attacked: list[Window]
    recovery: Window
    before: Reading
    peak: Reading
    after: Reading
    gaps: int
    duplicates: int
    closed: int
    missing: int
    lost: int
    replaced: int
    attacker: dict[str, int] = field(default_factory=dict)


def figures(attack: Attack, trial: Trial, patience: float) -> Figures:
    """The row of a trial. patience: the seconds of a probe that had no answer."""
    calm = statistics.median(window.p99 for window in trial.calm)
    attacked = statistics.median(window.p99 for window in trial.attacked)
    late = [*trial.attacked, trial.recovery]
    row = {
        "calm_p99_ms": calm,
        "p99_ms": attacked,
        "p99_ratio": attacked / calm,
        "p99_ratio_worst": max(window.p99 for window in trial.attacked) / calm,
        "worst_ms": max((max(w.delays) / 1000 for w in late if w.delays), default=math.inf),
        "recovery_s": trial.recovery.seconds,
        "calm_cores": _cores(trial.calm),
        "cores": _cores(trial.attacked),
    }
    if count := trial.attacker.get(attack.each):
        used = (_cores(late) - _cores(trial.calm)) * sum(window.seconds for window in late)
        row["us_each"] = used / count * 1e6
    for kind in _KINDS:
        before, meanwhile = _took(trial.calm, kind), _took(late, kind)
        if before and meanwhile:
            row[f"calm_{kind}_ms"] = 1000 * statistics.median(before)
            row[f"{kind}_ms"] = 1000 * statistics.median(meanwhile)
            row[f"{kind}_worst_ms"] = 1000 * max(meanwhile)
            row[f"{kind}s"] = len(meanwhile)
            row[f"{kind}s_out"] = sum(seconds >= patience for seconds in meanwhile)
    for name in ("before", "peak", "after"):
        reading: Reading = getattr(trial, name)
        row[f"memory_{name}_mib"] = reading.memory / MIB
        row[f"descriptors_{name}"] = reading.descriptors
        if reading.kernel is not None:
            row[f"kernel_{name}_mib"] = reading.kernel / MIB
    for name in ("gaps", "duplicates", "closed", "missing", "lost", "replaced"):
        row[name] = getattr(trial, name)
    return {name: round(value, 2) for name, value in row.items()}


def _cores(windows: Sequence[Window]) -> float:
    return sum(window.cpu for window in windows) / sum(window.seconds for window in windows)


def _took(windows: Sequence[Window], kind: str) -> list[float]:
    return [seconds for window in windows for seconds in window.took.get(kind, ())]


def broken(
    attack: Attack, row: Mapping[str, float], seen: Mapping[str, int], keys: Collection[str]
) -> list[str]:
    """What must never happen, however busy the machine is. seen: the attacker's counts."""
    wrong = [
        f"{row[name]:g} {what}"
        for name, what in (
            ("gaps", "gaps"),
            ("duplicates", "duplicates"),
            ("closed", "honest clients disconnected"),
            ("missing", "records missing"),
            ("replaced", "workers ended"),
        )
        if row[name]
    ]
    wrong += [
        f"the attacker counts {seen[bound.counter]} {bound.counter}, at most {bound.at_most}"
        for bound in attack.bounds
        if (not bound.where or bound.where in keys) and seen.get(bound.counter, 0) > bound.at_most
    ]
    return wrong


def noticed(attack: Attack, row: Mapping[str, float]) -> list[str]:
    """What honest clients should not notice: times and memory."""
    wrong = []
    if row["p99_ratio"] > MOST_RATIO:
        wrong.append(f"p99 × {row['p99_ratio']:.2f}")
    if row.get("newcomers_out"):
        wrong.append(f"{row['newcomers_out']:g} of {row['newcomers']:g} newcomers not let in")
    elif row.get("newcomer_worst_ms", 0) > 1000 * NEWCOMER_SECONDS:
        wrong.append(f"a newcomer took {row['newcomer_worst_ms'] / 1000:.1f} s")
    if row.get("operators_out"):
        wrong.append(f"{row['operators_out']:g} of {row['operators']:g} probes without an answer")
    if row["lost"]:
        wrong.append(f"{row['lost']:g} pongs did not come")
    grown = row["memory_peak_mib"] - row["memory_before_mib"]
    if grown > attack.memory_mib:
        wrong.append(f"workers grew by {grown:.0f} MiB")
    return wrong


def combined(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians of several trials' figures; of nested figures, too."""
    # A dict keeps their order.
    names = {name: None for row in rows for name in row}
    made: dict[str, Any] = {}
    for name in names:
        values = [row[name] for row in rows if name in row]
        if isinstance(values[0], Mapping):
            made[name] = combined(values)
        else:
            made[name] = round(statistics.median(values), 2)
    return made
