"""When a child counts as hung."""

from __future__ import annotations

from energyws.control.policy.heartbeat import Beat, Heartbeat
from energyws.process.board import State
from energyws.settings import Supervision

RULES = Supervision(hang_seconds=5, starved_seconds=60)


def beat(count: int, cpu_seconds: float) -> Beat:
    return Beat(State.READY, count, cpu_seconds)


def test_child_that_beats_is_alive_though_it_uses_no_cpu_time() -> None:
    heartbeat = Heartbeat(0.0)
    assert [heartbeat.look(beat(now, 0.0), now, RULES) for now in range(100)] == [None] * 100


def test_child_without_beat_and_cpu_time_hangs() -> None:
    heartbeat = Heartbeat(0.0)
    assert heartbeat.look(beat(1, 0.5), 0.0, RULES) is None
    assert heartbeat.look(beat(1, 0.5), 4.9, RULES) is None
    why = heartbeat.look(beat(1, 0.5), 5.0, RULES)
    assert why == "no heartbeat and no CPU time for 5.0 s"


def test_child_that_computes_without_a_beat_gets_longer() -> None:
    heartbeat = Heartbeat(0.0)
    assert [heartbeat.look(beat(1, now), now, RULES) for now in range(60)] == [None] * 60
    why = heartbeat.look(beat(1, 60.0), 60.0, RULES)
    assert why == "no heartbeat for 60.0 s, although it computes"


def test_time_in_which_the_supervisor_did_not_run_does_not_count() -> None:
    heartbeat = Heartbeat(0.0)
    heartbeat.look(beat(1, 0.5), 0.0, RULES)
    heartbeat.forgive(3600.0)
    assert heartbeat.look(beat(1, 0.5), 3604.0, RULES) is None
    assert heartbeat.look(beat(1, 0.5), 3605.0, RULES) is not None
