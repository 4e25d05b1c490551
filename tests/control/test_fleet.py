"""The fleet's policy, by tables and properties; time is a number here."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.board import State
from energyws.control.fleet import (
    Action,
    Beat,
    Exit,
    Fleet,
    Halt,
    Kill,
    Phase,
    Start,
    Terminate,
    describe,
)
from energyws.errors import ExitCode
from energyws.settings import Supervision

NAMES = ("consumer", "worker-0", "worker-1")
RULES = Supervision(
    hang_seconds=5,
    starved_seconds=60,
    crash_loop_count=5,
    crash_loop_seconds=30,
    backoff_max_seconds=4,
)


class Play:
    """A fleet whose children beat as told, in steps of a quarter of a second."""

    def __init__(self, names: Sequence[str] = NAMES, rng: float = 1.0) -> None:
        self.fleet = Fleet(RULES, names, lambda: rng)
        self.now = 100.0
        self.beats = dict.fromkeys(names, 0)
        self.cpu = dict.fromkeys(names, 0.0)
        self.running: set[str] = set()

    def step(self, *exits: Exit) -> list[Action]:
        self.running -= {each.name for each in exits}
        seen = {name: Beat(State.READY, self.beats[name], self.cpu[name]) for name in self.running}
        actions = self.fleet.step(self.now, seen, exits)
        self.running |= {action.name for action in actions if isinstance(action, Start)}
        return actions

    def pass_seconds(
        self, seconds: float, *, silent: Sequence[str] = (), idle: Sequence[str] = ()
    ) -> list[Action]:
        actions = []
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            for name in self.running:
                self.beats[name] += name not in silent
                self.cpu[name] += 0.01 * (name not in idle)
            actions += self.step()
        return actions

    def crash(self, name: str, status: int = -signal.SIGKILL) -> list[Action]:
        return self.step(Exit(name, status))


def test_everything_is_started_in_order() -> None:
    assert Play().step() == [Start("consumer"), Start("worker-0"), Start("worker-1")]


def test_steady_children_are_left_alone() -> None:
    play = Play()
    play.step()
    assert play.pass_seconds(600) == []


def test_first_crash_is_answered_at_once() -> None:
    play = Play()
    play.step()
    play.pass_seconds(5)
    assert play.crash("worker-0") == [Start("worker-0")]


def test_further_crashes_are_answered_later_and_later() -> None:
    play = Play()
    play.step()
    waits = []
    for _ in range(3):
        play.crash("worker-0")
        began = play.now
        while "worker-0" not in play.running:
            play.pass_seconds(0.25)
        waits.append(play.now - began)
    assert waits == [0.0, 0.25, 0.5]


def test_backoff_never_exceeds_its_bound() -> None:
    play = Play()
    play.step()
    for _ in range(12):
        # Far enough apart to be no loop, close enough to be remembered.
        play.pass_seconds(12)
        play.crash("worker-0")
        began = play.now
        while "worker-0" not in play.running:
            play.pass_seconds(0.25)
        assert play.now - began <= RULES.backoff_max_seconds


def test_healthy_minute_clears_the_record() -> None:
    play = Play()
    play.step()
    play.crash("worker-0")
    play.crash("worker-0")
    play.pass_seconds(70)
    assert play.crash("worker-0") == [Start("worker-0")]


def test_crash_loop_ends_the_service_and_says_why() -> None:
    play = Play(rng=0.0)
    play.step()
    actions: list[Action] = []
    for _ in range(RULES.crash_loop_count):
        actions = play.crash("worker-1")
        if "worker-1" not in play.running:
            play.pass_seconds(2.5)
    (halt,) = [action for action in actions if isinstance(action, Halt)]
    assert halt.code is ExitCode.CRASH_LOOP
    assert halt.why == (
        "worker-1 ended 5 times within 30 s, last killed by SIGKILL (out of memory?): see its log"
    )


def test_crashes_of_different_children_are_no_loop() -> None:
    play = Play([f"worker-{n}" for n in range(8)])
    play.step()
    for n in range(8):
        assert play.crash(f"worker-{n}") == [Start(f"worker-{n}")]


@pytest.mark.parametrize("code", [ExitCode.BOOT, ExitCode.CONFIG])
def test_child_that_cannot_start_ends_the_service_with_its_code(code: ExitCode) -> None:
    play = Play()
    play.step()
    (halt,) = play.crash("consumer", code)
    assert isinstance(halt, Halt)
    assert halt.code is code
    assert halt.why.startswith("consumer cannot start")


def test_hung_child_is_killed_once() -> None:
    play = Play()
    play.step()
    play.pass_seconds(3)
    actions = play.pass_seconds(30, silent=["worker-0"], idle=["worker-0"])
    (kill,) = actions
    assert isinstance(kill, Kill)
    assert kill.name == "worker-0"
    assert play.crash("worker-0") == [Start("worker-0")]


def test_child_that_computes_without_a_beat_gets_much_longer() -> None:
    play = Play()
    play.step()
    assert play.pass_seconds(59, silent=["worker-0"]) == []
    assert [action.name for action in play.pass_seconds(2, silent=["worker-0"])] == ["worker-0"]


def test_idle_child_that_beats_is_healthy() -> None:
    play = Play()
    play.step()
    assert play.pass_seconds(120, idle=NAMES) == []


@pytest.mark.parametrize("absence", [2.0, 10.0, 3600.0])
def test_absence_of_the_supervisor_is_held_against_nobody(absence: float) -> None:
    play = Play()
    play.step()
    play.pass_seconds(4, silent=NAMES, idle=NAMES)
    # The machine was suspended, or so starved that nothing of it ran.
    play.now += absence
    assert play.step() == []
    assert play.pass_seconds(0.5, silent=NAMES, idle=NAMES) == []
    assert len(play.pass_seconds(2, silent=NAMES, idle=NAMES)) == len(NAMES)


def test_drain_ends_the_workers_first_and_the_consumer_last() -> None:
    play = Play()
    play.step()
    play.fleet.drain(play.now + 10)
    assert play.step() == [Terminate("worker-0"), Terminate("worker-1")]
    assert play.step(Exit("worker-0", 0)) == []
    assert play.step(Exit("worker-1", 0)) == [Terminate("consumer")]
    assert play.step(Exit("consumer", 0)) == [Halt(ExitCode.OK, "drained")]


def test_drain_kills_what_outlives_its_deadline() -> None:
    play = Play()
    play.step()
    play.fleet.drain(play.now + 10)
    play.step()
    actions = play.pass_seconds(30)
    assert [type(action) for action in actions] == [Kill] * 3
    assert {action.name for action in actions if isinstance(action, Kill)} == set(NAMES)
    halt = play.step(*(Exit(name, -9) for name in NAMES))
    assert halt == [Halt(ExitCode.OK, "drained")]


def test_drain_starts_nobody_again() -> None:
    play = Play()
    play.step()
    play.crash("worker-0")
    play.crash("worker-0")
    assert play.fleet.phase("worker-0") is Phase.WAITING
    play.fleet.drain(play.now + 10)
    assert play.step() == [Terminate("worker-1")]
    assert play.step(Exit("worker-1", -9)) == [Terminate("consumer")]
    assert play.step(Exit("consumer", 1)) == [Halt(ExitCode.OK, "drained")]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "with exit code 0 (ok)"),
        (3, "with exit code 3 (boot)"),
        (77, "with exit code 77"),
        (-15, "killed by SIGTERM"),
        (-9, "killed by SIGKILL (out of memory?)"),
        (-99, "killed by signal 99"),
    ],
)
def test_exit_status_in_words(status: int, words: str) -> None:
    assert describe(status) == words


@given(
    st.lists(
        st.tuples(st.sampled_from(["crash", "pass", "absent"]), st.integers(0, 2)), max_size=60
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_no_child_is_started_while_it_runs(script: list[tuple[str, int]], rng: float) -> None:
    play = Play(rng=rng)
    running: set[str] = set()

    def note(actions: list[Action]) -> bool:
        for action in actions:
            if isinstance(action, Start):
                assert action.name not in running
                running.add(action.name)
            elif isinstance(action, Halt):
                return False
            else:
                # Nobody hangs in this play, whoever was absent.
                raise AssertionError(action)
        return True

    note(play.step())
    for what, which in script:
        name = NAMES[which]
        if what == "crash" and name in running:
            running.discard(name)
            if not note(play.crash(name, 1)):
                return
        elif what == "pass":
            if not note(play.pass_seconds(1 + which)):
                return
        else:
            play.now += 10.0 * which
            if not note(play.step()):
                return
