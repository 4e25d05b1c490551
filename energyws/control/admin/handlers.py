"""The requests of the admin port, by path: what GET shows and what POST does.

GET is answered in the admin port's threads: its handlers change nothing, and what they read of
other objects is a copy. POST is answered in the supervisor's loop (in_loop.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol, get_args

import psutil

from energyws.control.admin.exposition import exposition
from energyws.control.admin.in_loop import Act, Answer, in_loop
from energyws.control.admin.server import Answers, Commands, Pages
from energyws.control.children.children import Children
from energyws.control.children.status import Status, keys_fetched, stalls_of, usage_of
from energyws.control.policy import readiness
from energyws.control.policy.fleet import Fleet
from energyws.control.reload.plan import Outcome
from energyws.logs.recent import Recent
from energyws.process.board import Field, Keyless, Row, State
from energyws.settings import MAX_WORKERS, Level
from energyws.version import installed

# A supervisor that has taken no step for this long is stuck.
LIVE_SECONDS: Final = 30.0
_DRAINING: Final[Answer] = (409, {"error": "the service is draining"})


class Operations(Protocol):
    """What the supervisor does for operators; only in its loop."""

    def scale(self, workers: int) -> None: ...
    def rebalance(self) -> dict[str, int]: ...
    def replace(self) -> None: ...
    def reload(self, trigger: str) -> asyncio.Future[Outcome]: ...
    def drain(self, trigger: str) -> None: ...
    def set_log_level(self, trigger: str, level: Level) -> None: ...


class Handlers:
    """stepped_at: when the supervisor took its last step, monotonic seconds."""

    def __init__(
        self,
        fleet: Fleet,
        children: Children,
        row: Row,
        recent: Recent,
        operations: Operations,
    ) -> None:
        self.stepped_at = time.monotonic()
        self._fleet = fleet
        self._children = children
        self._row = row
        self._recent = recent
        self._operations = operations
        self._version = installed()
        self._usage = psutil.Process()

    def answers(self) -> Answers:
        """GET requests with JSON answers."""
        return {
            "/live": self._live,
            "/ready": self._ready,
            "/workers": self._workers,
            "/status": lambda: (200, self.status().as_json()),
        }

    def pages(self) -> Pages:
        """GET requests with other answers."""
        return {"/metrics": lambda accept: exposition(self.status(), accept)}

    def commands(self, loop: asyncio.AbstractEventLoop) -> Commands:
        """POST requests, for threads; loop: the supervisor's."""
        acts: Mapping[str, Act] = {
            "/workers": self._scale,
            "/rebalance": self._rebalance,
            "/roll": self._roll,
            "/reload": self._reload,
            "/drain": self._drain,
            "/log": self._log_level,
        }
        return {path: in_loop(loop, act) for path, act in acts.items()}

    def reasons(self) -> list[str]:
        """Why load balancers should send no new clients here; empty: the service is ready."""
        now_ms = time.time() * 1000
        health = [
            readiness.ChildHealth(
                is_worker=child.spec.slot is not None,
                state=State(child.row[Field.STATE]),
                broker_up=bool(child.row[Field.BROKER_UP]),
                condemned=child.end is not None,
                stalls=stalls_of(child.row, child.streams),
                unlisted_stalls=child.row[Field.UNLISTED_WAITS],
                keyless=Keyless(child.row[Field.KEYLESS]),
                connections=child.row[Field.CONNECTIONS],
                full_seconds=_seconds_since(child.row[Field.FULL_SINCE_MS], now_ms),
                disputes=bool(child.row[Field.DISPUTED]),
            )
            for child in self._children
        ]
        return readiness.unready(self._fleet.draining, health)

    def status(self) -> Status:
        """The state of the service now."""
        return Status(
            wall=time.time(),
            version=self._version,
            reasons=self.reasons(),
            draining=self._fleet.draining,
            workers_wanted=self._fleet.workers,
            max_connections=self._fleet.settings.server.max_connections,
            supervisor=usage_of(self._usage),
            supervisor_columns=self._row.columns(),
            issuers=keys_fetched(
                self._fleet.settings.auth.issuers,
                [child.row for child in self._children if child.spec.slot is not None],
            ),
            events=self._recent.events(),
            **self._children.seen()._asdict(),
        )

    # GET.

    def _live(self) -> Answer:
        silent = time.monotonic() - self.stepped_at
        alive = silent < LIVE_SECONDS
        return (200 if alive else 503), {"live": alive, "silent_seconds": round(silent, 1)}

    def _ready(self) -> Answer:
        reasons = self.reasons()
        return (503 if reasons else 200), {"ready": not reasons, "reasons": reasons}

    def _workers(self) -> Answer:
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

    # POST.

    def _scale(self, body: Any) -> Answer:
        wanted = body.get("workers") if isinstance(body, dict) else None
        # In Python true is an int, too.
        if type(wanted) is not int or not 1 <= wanted <= MAX_WORKERS:
            return 400, {"error": f'send {{"workers": N}} with N from 1 to {MAX_WORKERS}'}
        if self._fleet.draining:
            return _DRAINING
        before = self._fleet.workers
        self._operations.scale(wanted)
        return 200, {"workers": wanted, "before": before}

    def _rebalance(self, body: Any) -> Answer:
        if self._fleet.draining:
            return _DRAINING
        return 200, {"shed": self._operations.rebalance()}

    def _roll(self, body: Any) -> Answer:
        if self._fleet.draining:
            return _DRAINING
        self._operations.replace()
        return 200, {"replacing": True}

    async def _reload(self, body: Any) -> Answer:
        if self._fleet.draining:
            return _DRAINING
        # Shielded: another request may wait for the same reload.
        outcome = await asyncio.shield(self._operations.reload("POST /reload"))
        if outcome.problems:
            problems = list(outcome.problems)
            return 422, {"error": "refused: going on as before", "problems": problems}
        return 200, {"changed": list(outcome.changed), "restart": list(outcome.restart)}

    def _drain(self, body: Any) -> Answer:
        if self._fleet.draining:
            return _DRAINING
        self._operations.drain("POST /drain")
        return 200, {"seconds": self._fleet.settings.server.drain_seconds}

    def _log_level(self, body: Any) -> Answer:
        wanted: Any = body.get("level") if isinstance(body, dict) else None
        if wanted not in get_args(Level):
            levels = ", ".join(get_args(Level))
            return 400, {"error": f'send {{"level": L}} with L one of {levels}'}
        before = self._fleet.settings.log.level
        self._operations.set_log_level("POST /log", wanted)
        return 200, {"level": wanted, "before": before}


def _seconds_since(at_ms: int, now_ms: float) -> float:
    """0 if `at_ms` is 0; otherwise at least a millisecond, even if the clock was set back."""
    return max(now_ms - at_ms, 1.0) / 1000 if at_ms else 0.0
