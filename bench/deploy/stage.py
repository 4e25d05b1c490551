"""Traffic, checking clients and newcomers during a sequence of operator actions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bench.faults.crowd import Crowd
from bench.faults.judge import judge
from bench.faults.producer import Producer
from bench.faults.strangers import Newcomers
from bench.faults.verdict import Losses, Verdict
from bench.kit.measuring import percentile
from bench.kit.record import PARTITIONS

PATIENCE_SECONDS: Final = 60.0


@dataclass
class Step:
    """The effects of one operator action. Times in seconds.

    failed: attempts of checking clients to connect that were refused or aborted.
    """

    name: str
    seconds: float
    reconnects: int
    failed: int
    newcomers: int
    newcomers_refused: int
    gaps: int
    duplicates: int
    reorderings: int
    pause_median: float
    pause_p99: float
    pause_longest: float
    connects_each_second: list[int] = field(repr=False)
    problems: list[str] = field(default_factory=list)


class Stage:
    """Producer, checking clients and newcomers at one address."""

    def __init__(self, producer: Producer, crowd: Crowd, newcomers: Newcomers, rate: float) -> None:
        self.producer = producer
        self.crowd = crowd
        self.newcomers = newcomers
        self.steps: list[Step] = []
        self._rate = rate

    def catch_up(self) -> None:
        """Wait until every client has a record written after this call."""
        self.crowd.reach(self.producer.newer(PATIENCE_SECONDS), PATIENCE_SECONDS)

    def step(self, name: str, act: Callable[[], None]) -> None:
        """Do `act` and judge what the clients received."""
        self.catch_up()
        before = self.crowd.mark()
        newcomers = self.newcomers.statuses[101], self.newcomers.refused()
        began = time.monotonic()
        act()
        seconds = time.monotonic() - began
        self.catch_up()
        seen = self.crowd.report()
        verdict = Verdict()
        nothing: list[set[int]] = [set() for _ in range(PARTITIONS)]
        judge(verdict, seen, self.producer.facts(), nothing, Losses())
        pauses = [max(0.0, silence - 1 / self._rate) for silence in seen["silences"]]
        micros = [int(pause * 1e6) for pause in pauses]
        each = Counter(int(at - began) for at in seen["connected_at"])
        step = Step(
            name=name,
            seconds=round(seconds, 2),
            reconnects=seen["connects"] - before["connects"],
            failed=seen["failed"] - before["failed"],
            newcomers=self.newcomers.statuses[101] - newcomers[0],
            newcomers_refused=self.newcomers.refused() - newcomers[1],
            gaps=verdict.gaps,
            duplicates=verdict.duplicates,
            reorderings=verdict.reorderings,
            pause_median=round(percentile(micros, 0.5) / 1e6, 3),
            pause_p99=round(percentile(micros, 0.99) / 1e6, 3),
            pause_longest=round(max(pauses), 3),
            connects_each_second=[each[second] for second in range(max(each, default=-1) + 1)],
            problems=list(verdict.problems),
        )
        self.steps.append(step)
        print(step, flush=True)
