"""What the admin port shows when it is asked with GET; nothing here changes anything.

Called from the admin port's threads: it only reads, and what it reads of others is a copy.
"""

from __future__ import annotations

import time
from typing import Any, Final

import psutil

from energyws.control.admin.metrics import exposition
from energyws.control.admin.server import Answers, Pages
from energyws.control.children.children import Children
from energyws.control.children.status import Status, keys_fetched, usage_of, waits_of
from energyws.control.policy import readiness
from energyws.control.policy.fleet import Fleet
from energyws.logs.recent import Recent
from energyws.process.board import Field, Row, State
from energyws.version import installed

# A supervisor that has not taken a step for so long is stuck.
LIVE_SECONDS: Final = 30.0


class Handlers:
    """The service as its supervisor sees it. stepped_at: when that last looked, monotonic."""

    def __init__(self, fleet: Fleet, children: Children, row: Row, recent: Recent) -> None:
        self.stepped_at = time.monotonic()
        self._fleet = fleet
        self._children = children
        self._row = row
        self._recent = recent
        self._version = installed()
        self._usage = psutil.Process()

    def answers(self) -> Answers:
        """What is JSON, by path."""
        return {
            "/live": self._live,
            "/ready": self._ready,
            "/workers": self._workers,
            "/status": lambda: (200, self.status().as_json()),
        }

    def pages(self) -> Pages:
        """What is not, by path."""
        return {"/metrics": lambda accept: exposition(self.status(), accept)}

    def reasons(self) -> list[str]:
        """Why nobody new should be sent here; empty: all is well."""
        now_ms = time.time() * 1000
        sights = [
            readiness.ChildHealth(
                is_worker=child.spec.slot is not None,
                state=State(child.row[Field.STATE]),
                broker_up=bool(child.row[Field.BROKER_UP]),
                doomed=child.end is not None,
                waits=waits_of(child.row, child.streams),
                unlisted_waits=child.row[Field.UNLISTED_WAITS],
                keyless=bool(child.row[Field.KEYLESS]),
                connections=child.row[Field.CONNECTIONS],
                full_seconds=_seconds_since(child.row[Field.FULL_SINCE_MS], now_ms),
            )
            for child in self._children
        ]
        return readiness.unready(self._fleet.draining, sights)

    def status(self) -> Status:
        """All of it."""
        sight = self._children.sight()
        return Status(
            wall=time.time(),
            version=self._version,
            reasons=self.reasons(),
            draining=self._fleet.draining,
            workers_wanted=self._fleet.workers,
            max_connections=self._fleet.settings.server.max_connections,
            supervisor=usage_of(self._usage),
            supervisor_columns=self._row.columns(),
            processes=sight.processes,
            ended=sight.ended,
            starts=sight.starts,
            exits=sight.exits,
            partitions=list(sight.partitions.values()),
            records=sight.records,
            issuers=keys_fetched(
                self._fleet.settings.auth.issuers,
                [child.row for child in self._children if child.spec.slot is not None],
            ),
            events=self._recent.events(),
        )

    def _live(self) -> tuple[int, Any]:
        silent = time.monotonic() - self.stepped_at
        alive = silent < LIVE_SECONDS
        return (200 if alive else 503), {"live": alive, "silent_seconds": round(silent, 1)}

    def _ready(self) -> tuple[int, Any]:
        reasons = self.reasons()
        return (503 if reasons else 200), {"ready": not reasons, "reasons": reasons}

    def _workers(self) -> tuple[int, Any]:
        now = time.monotonic()
        return 200, [
            {
                "name": child.spec.name,
                "pid": child.process.pid,
                "state": State(child.row[Field.STATE]).name.lower(),
                "restarts": child.starts - 1,
                "uptime_seconds": round(now - child.started_at, 1),
                "board": child.row.snapshot(),
            }
            for child in self._children
        ]


def _seconds_since(at_ms: int, now_ms: float) -> float:
    """How long ago; 0 for what never was. At least a millisecond, whatever the clock did."""
    return max(now_ms - at_ms, 1.0) / 1000 if at_ms else 0.0
