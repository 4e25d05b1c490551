"""What the classes with operators say of a roll that does not end."""

from __future__ import annotations

from typing import Any

from bench.faults.classes.operator import unreplaced

NAMES = ["consumer", "worker-0", "worker-1"]
BEFORE = {1: "consumer", 2: "worker-0"}


def child(name: str, pid: int, state: str = "ready") -> dict[str, Any]:
    return {"name": name, "pid": pid, "state": state}


def test_roll_is_complete_when_all_children_are_ready_and_new() -> None:
    children = [child(name, 10 + at) for at, name in enumerate(NAMES)]
    assert unreplaced(children, NAMES, BEFORE) == []


def test_what_is_missing_is_named() -> None:
    children = [child("consumer", 1), child("worker-0", 12, "starting"), child("worker-2", 14)]
    assert unreplaced(children, NAMES, BEFORE) == [
        "worker-1 does not run",
        "consumer (pid 1, ready) is the one from before the roll",
        "worker-0 (pid 12) is starting, not ready",
        "worker-2 (pid 14) still runs",
    ]
