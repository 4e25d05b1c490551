"""The fleet's policy, with numbers for time and without processes."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.control.policy.actions import (
    Action,
    Crowded,
    Exit,
    Halt,
    Kill,
    Release,
    Replaced,
    Send,
    Start,
    Steer,
)
from energyws.control.policy.fleet import MAX_PROCESSES, WARM_SECONDS, Fleet
from energyws.control.policy.heartbeat import Beat
from energyws.control.policy.slots import CONSUMER, worker_name
from energyws.errors import ExitCode
from energyws.process.board import State
from energyws.process.control_messages import Shed, ShutDown, ShutdownMode
from energyws.settings import Kafka, Server, Settings, Supervision

NAMES = ("consumer", "worker-0", "worker-1")
RULES = Supervision(
    hang_seconds=5,
    starved_seconds=60,
    crash_loop_count=5,
    crash_loop_seconds=30,
    backoff_max_seconds=4,
)
SETTINGS = Settings(
    kafka=Kafka(brokers="b", topic="t"),
    server=Server(drain_seconds=10, close_timeout_seconds=1, handshake_timeout_seconds=1),
    supervision=RULES,
)
Short = tuple[str, ...]


def shortened(actions: Sequence[Action], names: dict[int, str]) -> list[Short]:
    """Actions as short tuples, with names instead of ids."""
    short: list[Short] = []
    for action in actions:
        match action:
            case Start(_, name, _, successor):
                short.append(("start", name, *(["successor"] if successor else [])))
            case Send(process, ShutDown(mode)):
                short.append(("leave", names[process], mode.value))
            case Send(process, Shed(count)):
                short.append(("shed", names[process], str(count)))
            case Kill(process, _):
                short.append(("kill", names[process]))
            case Steer(slots):
                short.append(("steer", *map(str, slots)))
            case Release(slot):
                short.append(("release", str(slot)))
            case Replaced(name, why):
                short.append(("not replaced" if why else "replaced", name))
            case Crowded(processes):
                short.append(("crowded", str(processes)))
            case Halt(code, why):
                short.append(("halt", code.name, why))
    return short


class Play:
    """A fleet whose children are ready immediately and beat, in steps of a quarter of a second."""

    def __init__(self, workers: int = 2, rng: float = 1.0, limit: int = MAX_PROCESSES) -> None:
        self.fleet = Fleet(SETTINGS, workers, lambda: rng, limit)
        self.now = 100.0
        self.names: dict[int, str] = {}
        self.states: dict[int, State] = {}
        self.beats: dict[int, int] = {}
        self.cpu: dict[int, float] = {}
        self.loads: dict[str, int] = {}
        self.full: set[str] = set()
        self.disputes: set[str] = set()
        self.slow = False
        self.actions: list[Action] = []

    def step(self, *exits: Exit) -> list[Short]:
        for each in exits:
            del self.states[each.process]
        seen = {
            number: Beat(
                state,
                self.beats[number],
                self.cpu[number],
                self.loads.get(self.names[number], 0),
                self.names[number] in self.full,
                self.names[number] in self.disputes,
            )
            for number, state in self.states.items()
        }
        self.actions = self.fleet.step(self.now, seen, exits)
        for action in self.actions:
            if isinstance(action, Start):
                number = action.process
                self.names[number] = action.name
                self.states[number] = State.STARTING if self.slow else State.READY
                self.beats[number], self.cpu[number] = 0, 0.0
        return shortened(self.actions, self.names)

    def started(self, workers: int = 2) -> Play:
        """All children run, and connections go to all workers."""
        self.step()
        self.step()
        return self

    def pass_seconds(
        self, seconds: float, *, silent: Sequence[str] = (), idle: Sequence[str] = ()
    ) -> list[Short]:
        actions = []
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            for number in self.states:
                self.beats[number] += self.names[number] not in silent
                self.cpu[number] += 0.01 * (self.names[number] not in idle)
            actions += self.step()
        return actions

    def number(self, name: str) -> int:
        """The newest process of that name."""
        return max(number for number, each in self.names.items() if each == name)

    def running(self, name: str) -> bool:
        return any(self.names[number] == name for number in self.states)

    def crash(self, name: str, status: int = -signal.SIGKILL) -> list[Short]:
        return self.step(Exit(self.number(name), status))

    def end(self, *numbers: int) -> list[Short]:
        return self.step(*(Exit(number, 0) for number in numbers))


def test_everything_is_started_in_order() -> None:
    assert Play().step() == [("steer", "0", "1"), *(("start", name) for name in NAMES)]


def test_steady_children_are_left_alone() -> None:
    assert Play().started().pass_seconds(600) == []


def test_child_restarts_immediately_after_its_first_crash() -> None:
    play = Play().started()
    play.pass_seconds(5)
    assert play.crash("worker-0") == [("steer", "1"), ("start", "worker-0")]
    assert play.step() == [("steer", "0", "1")]


def test_child_restarts_after_longer_and_longer_pauses() -> None:
    play = Play().started()
    waits = []
    for _ in range(3):
        play.crash("worker-0")
        began = play.now
        while not play.running("worker-0"):
            play.pass_seconds(0.25)
        waits.append(play.now - began)
    assert waits == [0.0, 0.25, 0.5]


def test_backoff_never_exceeds_its_bound() -> None:
    play = Play().started()
    for _ in range(12):
        # Far enough apart to be no crash loop, close enough to be remembered.
        play.pass_seconds(12)
        play.crash("worker-0")
        began = play.now
        while not play.running("worker-0"):
            play.pass_seconds(0.25)
        assert play.now - began <= RULES.backoff_max_seconds


def test_shorter_backoff_applies_to_the_present_pause() -> None:
    play = Play(rng=1.0).started()
    for _ in range(4):
        play.crash("worker-0")
        while not play.running("worker-0"):
            play.pass_seconds(0.25)
    play.fleet.settings = replace(
        SETTINGS, supervision=replace(RULES, crash_loop_count=100, backoff_max_seconds=3600)
    )
    play.crash("worker-0")
    assert play.pass_seconds(1) == []
    play.fleet.settings = replace(
        SETTINGS, supervision=replace(RULES, crash_loop_count=100, backoff_max_seconds=0.5)
    )
    assert ("start", "worker-0") in play.pass_seconds(0.25)


def test_minute_without_a_crash_clears_the_record() -> None:
    play = Play().started()
    play.crash("worker-0")
    play.crash("worker-0")
    play.pass_seconds(70)
    assert ("start", "worker-0") in play.crash("worker-0")


def test_crash_loop_ends_the_service_with_a_reason() -> None:
    play = Play(rng=0.0).started()
    for _ in range(RULES.crash_loop_count):
        play.crash("worker-1")
        actions = play.actions
        if not play.running("worker-1"):
            play.pass_seconds(2.5)
    (halt,) = [action for action in actions if isinstance(action, Halt)]
    assert halt.code is ExitCode.CRASH_LOOP
    assert halt.why == (
        "worker-1 ended 5 times within 30 s, last killed by SIGKILL (out of memory?): see its log"
    )


def test_crashes_of_different_children_are_no_crash_loop() -> None:
    play = Play(8).started()
    for n in range(8):
        assert ("start", f"worker-{n}") in play.crash(f"worker-{n}")


@pytest.mark.parametrize("code", [ExitCode.BOOT, ExitCode.CONFIG])
def test_child_that_cannot_start_ends_the_service_with_its_code(code: ExitCode) -> None:
    play = Play().started()
    play.crash("consumer", code)
    (halt,) = play.actions
    assert isinstance(halt, Halt)
    assert halt.code is code
    assert halt.why.startswith("consumer cannot start")


def test_hung_child_is_killed_once() -> None:
    play = Play().started()
    play.pass_seconds(3)
    actions = play.pass_seconds(30, silent=["worker-0"], idle=["worker-0"])
    # From then on it gets no new connections.
    assert actions == [("kill", "worker-0"), ("steer", "1")]
    assert play.crash("worker-0") == [("start", "worker-0")]


def test_child_that_computes_without_a_beat_gets_much_longer() -> None:
    play = Play().started()
    assert play.pass_seconds(59, silent=["worker-0"]) == []
    assert ("kill", "worker-0") in play.pass_seconds(2, silent=["worker-0"])


def test_idle_child_that_beats_is_healthy() -> None:
    assert Play().started().pass_seconds(120, idle=NAMES) == []


@pytest.mark.parametrize("absence", [2.0, 10.0, 3600.0])
def test_time_without_the_supervisor_does_not_count(absence: float) -> None:
    play = Play().started()
    play.pass_seconds(4, silent=NAMES, idle=NAMES)
    # The machine was suspended, or the supervisor got no CPU time.
    play.now += absence
    assert play.step() == []
    assert play.pass_seconds(0.5, silent=NAMES, idle=NAMES) == []
    killed = [each for each in play.pass_seconds(2, silent=NAMES, idle=NAMES) if each[0] == "kill"]
    assert len(killed) == len(NAMES)


def test_drain_ends_the_workers_first_and_the_consumer_last() -> None:
    play = Play().started()
    play.fleet.drain(play.now)
    assert play.step() == [("leave", "worker-0", "stop"), ("leave", "worker-1", "stop")]
    assert play.crash("worker-0", 0) == []
    assert play.crash("worker-1", 0) == [("leave", "consumer", "stop")]
    assert play.crash("consumer", 0) == [("halt", "OK", "drained")]


def test_drain_kills_processes_that_outlive_its_deadline() -> None:
    play = Play().started()
    play.fleet.drain(play.now)
    play.step()
    assert play.pass_seconds(play.fleet.drain_seconds - 1) == []
    actions = play.pass_seconds(30)
    assert sorted(actions) == [("kill", name) for name in NAMES]
    halt = play.step(*(Exit(play.number(name), -9) for name in NAMES))
    assert halt == [("halt", "OK", "drained")]


def delayed(seconds: float) -> Play:
    """A fleet in its drain delay of `seconds`."""
    play = Play().started()
    play.fleet.settings = replace(
        SETTINGS, server=replace(SETTINGS.server, drain_delay_seconds=seconds)
    )
    play.fleet.drain(play.now)
    assert play.fleet.draining
    return play


def test_drain_begins_after_its_delay_and_then_has_its_full_time() -> None:
    play = delayed(5)
    assert play.pass_seconds(4.75) == []
    assert play.pass_seconds(0.25) == [("leave", "worker-0", "stop"), ("leave", "worker-1", "stop")]
    assert play.pass_seconds(play.fleet.drain_seconds - 0.25) == []
    assert sorted(play.pass_seconds(0.25)) == [("kill", name) for name in NAMES]


def test_child_that_crashes_before_the_drain_begins_is_started_again() -> None:
    play = delayed(5)
    assert ("start", "worker-0") in play.crash("worker-0")
    assert ("start", "consumer") in play.crash("consumer")


def test_no_further_child_is_replaced_in_the_drain_delay() -> None:
    play = Play().started()
    play.fleet.replace()
    assert play.step() == [("start", "consumer", "successor")]
    old = min(number for number, name in play.names.items() if name == CONSUMER)
    play.fleet.settings = replace(SETTINGS, server=replace(SETTINGS.server, drain_delay_seconds=60))
    play.fleet.drain(play.now)
    # The replacement that has begun is finished, and no worker follows.
    assert play.step() == [("replaced", "consumer"), ("leave", "consumer", "handover")]
    assert play.end(old) == []
    assert play.pass_seconds(10) == []


def test_drain_starts_no_child_again() -> None:
    play = Play().started()
    play.crash("worker-0")
    play.crash("worker-0")
    assert not play.running("worker-0")
    play.fleet.drain(play.now)
    assert play.step() == [("leave", "worker-1", "stop")]
    assert play.crash("worker-1") == [("leave", "consumer", "stop")]
    assert play.crash("consumer", 1) == [("halt", "OK", "drained")]


def test_drain_reaches_children_that_leave_already() -> None:
    play = Play().started()
    play.fleet.scale(1)
    play.step()
    play.fleet.drain(play.now)
    assert play.step() == [("leave", "worker-0", "stop"), ("leave", "worker-1", "stop")]


def test_new_worker_gets_connections_when_it_is_ready() -> None:
    play = Play().started()
    play.slow = True
    play.fleet.scale(4)
    assert play.fleet.workers == 4
    assert play.step() == [("start", "worker-2"), ("start", "worker-3")]
    assert play.pass_seconds(2) == []
    play.states[play.number("worker-3")] = State.READY
    assert play.step() == [("steer", "0", "1", "3")]
    play.states[play.number("worker-2")] = State.READY
    assert play.step() == [("steer", "0", "1", "2", "3")]


def test_retired_worker_gets_no_connections_before_it_leaves() -> None:
    play = Play(4).started()
    play.fleet.scale(2)
    assert play.step() == [
        ("steer", "0", "1"),
        ("leave", "worker-2", "retire"),
        ("leave", "worker-3", "retire"),
    ]
    assert play.pass_seconds(5) == []
    assert play.crash("worker-2", 0) == [("release", "2")]
    assert play.crash("worker-3", 0) == [("release", "3")]
    assert play.pass_seconds(60) == []


def test_worker_that_does_not_leave_is_killed_at_its_deadline() -> None:
    play = Play().started()
    play.fleet.scale(1)
    play.step()
    assert play.pass_seconds(play.fleet.leave_seconds - 1) == []
    assert play.pass_seconds(5) == [("kill", "worker-1")]


def test_slot_that_is_needed_again_gets_a_new_worker_while_the_old_one_leaves() -> None:
    play = Play().started()
    play.fleet.scale(1)
    play.step()
    old = play.number("worker-1")
    play.fleet.scale(2)
    assert play.step() == [("start", "worker-1")]
    # From now on the queue belongs to the new worker.
    assert play.step() == [("steer", "0", "1"), ("leave", "worker-1", "handover")]
    assert play.actions[1] == Send(old, ShutDown(ShutdownMode.HANDOVER))
    assert play.end(old) == []
    assert play.pass_seconds(60) == []


def test_scaling_back_and_forth_never_needs_more_processes_than_rows() -> None:
    play = Play(64).started(64)
    seen = []
    for workers in (1, 64) * 3:
        play.fleet.scale(workers)
        assert play.fleet.workers == workers
        seen += play.pass_seconds(2)
        assert len(play.states) <= MAX_PROCESSES
    assert ("crowded", str(MAX_PROCESSES)) in seen
    # Overdue workers are killed, and then the wanted children all run.
    for _ in range(240):
        play.pass_seconds(0.25)
        killed = [each.process for each in play.actions if isinstance(each, Kill)]
        play.step(*(Exit(number, -9) for number in killed if number in play.states))
    assert sorted(play.names[number] for number in play.states) == sorted(
        [CONSUMER, *map(worker_name, range(64))]
    )


def test_other_threads_may_read_while_it_is_scaled() -> None:
    play = Play(64).started(64)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    ended = threading.Event()

    def look() -> int:
        looks = 0
        while not ended.is_set():
            assert play.fleet.workers in (1, 64)
            assert not play.fleet.draining
            looks += 1
        return looks

    try:
        with ThreadPoolExecutor(1) as pool:
            looks = pool.submit(look)
            for _ in range(100):
                for workers in (1, 64):
                    play.fleet.scale(workers)
                    play.step()
                    play.end(*(number for number in play.states if number > 65))
            ended.set()
            assert looks.result() > 0
    finally:
        ended.set()
        sys.setswitchinterval(before)


def test_crashed_consumer_restarts_before_anything_that_waits_for_room() -> None:
    play = Play(2, limit=4).started()
    for workers in (1, 2, 1, 2):
        play.fleet.scale(workers)
        play.step()
    assert len(play.states) == 4
    assert ("start", CONSUMER) in play.crash(CONSUMER, -9)


def test_successor_waits_for_room() -> None:
    play = Play(2, limit=4).started()
    play.fleet.scale(1)
    play.step()
    leaving = play.number("worker-1")
    play.fleet.scale(2)
    play.step()
    play.fleet.replace(workers=False)
    assert play.step() == [("steer", "0", "1"), ("leave", "worker-1", "handover"), ("crowded", "4")]
    assert play.pass_seconds(5) == []
    assert play.end(leaving) == [("start", CONSUMER, "successor")]


def test_children_are_replaced_one_at_a_time() -> None:
    play = Play().started()
    play.fleet.replace()
    for name in NAMES:
        old = play.number(name)
        assert play.step() == [("start", name, "successor")]
        assert play.step() == [("replaced", name), ("leave", name, "handover")]
        assert play.actions[1] == Send(old, ShutDown(ShutdownMode.HANDOVER))
        # Its clients leave slowly, and the next replacement waits for that.
        assert play.pass_seconds(5) == []
        assert play.end(old) == []
    assert play.pass_seconds(60) == []


def test_successor_that_is_never_ready_is_given_up() -> None:
    play = Play().started()
    play.slow = True
    play.fleet.replace()
    assert play.step() == [("start", "consumer", "successor")]
    assert play.pass_seconds(WARM_SECONDS - 1) == []
    assert play.pass_seconds(2) == [("kill", "consumer")]
    assert play.crash("consumer") == [("not replaced", "consumer")]
    assert play.pass_seconds(300) == []


def test_children_that_were_asked_for_since_are_replaced_after_a_successor_that_failed() -> None:
    play = Play().started()
    play.slow = True
    play.fleet.replace()
    play.step()
    # As with a mistake in the configuration, and its correction.
    play.fleet.replace(workers=False)
    assert play.crash("consumer", 1) == [("not replaced", "consumer")]
    assert play.step() == [("start", "consumer", "successor")]
    play.slow = False
    play.states[play.number("consumer")] = State.READY
    assert play.step() == [("replaced", "consumer"), ("leave", "consumer", "handover")]


@pytest.mark.parametrize("status", [1, -9, ExitCode.BOOT])
def test_successor_that_ends_is_given_up_and_no_other_child_is_replaced(status: int) -> None:
    play = Play().started()
    play.slow = True
    play.fleet.replace()
    play.step()
    assert play.crash("consumer", status) == [("not replaced", "consumer")]
    assert play.pass_seconds(300) == []
    assert play.running("consumer")


def test_successor_takes_the_place_of_a_child_that_crashes() -> None:
    play = Play().started()
    play.fleet.replace(workers=False)
    old = play.number("consumer")
    play.slow = True
    play.step()
    assert play.step(Exit(old, -9)) == []
    play.states[play.number("consumer")] = State.READY
    assert play.pass_seconds(60) == []


def test_child_that_is_not_ready_is_replaced_without_a_handover() -> None:
    play = Play()
    play.slow = True
    play.step()
    play.fleet.replace(workers=False)
    assert play.step() == [("leave", "consumer", "handover")]
    assert play.step() == [("start", "consumer")]


def test_child_that_leaves_without_an_order_gets_a_successor_immediately() -> None:
    play = Play().started()
    old = play.number("worker-1")
    play.states[old] = State.DRAINING
    assert play.step() == [("steer", "0"), ("start", "worker-1")]
    assert play.step() == [("steer", "0", "1"), ("leave", "worker-1", "handover")]
    assert play.actions[1] == Send(old, ShutDown(ShutdownMode.HANDOVER))
    assert play.end(old) == []


def test_rebalancing_sheds_connections_above_the_share_to_other_workers() -> None:
    play = Play(4).started()
    play.loads = {"worker-0": 100, "worker-1": 20, "worker-2": 40, "worker-3": 40}
    play.step()
    assert play.fleet.rebalance(play.now) == {"worker-0": 50}
    assert play.step() == [("steer", "1", "2", "3"), ("shed", "worker-0", "50")]
    assert play.pass_seconds(1) == []
    play.loads = dict.fromkeys(map(worker_name, range(4)), 50)
    assert play.step() == [("steer", "0", "1", "2", "3")]


def test_rebalancing_without_effect_ends() -> None:
    play = Play().started()
    play.loads = {"worker-0": 100, "worker-1": 0}
    play.step()
    play.fleet.rebalance(play.now)
    play.step()
    assert play.pass_seconds(play.fleet.leave_seconds + 1) == [("steer", "0", "1")]


@pytest.mark.parametrize(
    "loads", [{}, {"worker-0": 50, "worker-1": 50}, {"worker-0": 52, "worker-1": 48}]
)
def test_rebalancing_leaves_a_fair_distribution_alone(loads: dict[str, int]) -> None:
    play = Play().started()
    play.loads = loads
    play.step()
    assert play.fleet.rebalance(play.now) == {}
    assert play.step() == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["crash", "pass", "absent", "replace", "scale", "end", "ready"]),
            st.integers(0, 3),
        ),
        max_size=60,
    ),
    st.booleans(),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([6, 8, MAX_PROCESSES]),
)
def test_every_slot_has_one_child_in_all_circumstances(
    script: list[tuple[str, int]], slow: bool, rng: float, limit: int
) -> None:
    play = Play(rng=rng, limit=limit).started()
    play.slow = slow
    leaving: set[int] = set()

    def note(actions: Sequence[Action]) -> bool:
        for action in actions:
            match action:
                case Send(process, ShutDown()):
                    leaving.add(process)
                case Release(slot):
                    assert not play.running(worker_name(slot))
                case Steer(slots):
                    assert slots
                    assert max(slots) < play.fleet.workers
                case Halt():
                    return False
        for name in (CONSUMER, *map(worker_name, range(play.fleet.workers))):
            staying = [n for n in play.states if play.names[n] == name and n not in leaving]
            # At most a child and its successor.
            assert len(staying) <= 2
        assert len(play.states) <= limit
        return True

    for what, which in script:
        running = sorted(play.states)
        some = running[which % len(running)] if running else None
        if what == "crash" and some is not None:
            play.step(Exit(some, 1))
        elif what == "end" and leaving & play.states.keys():
            play.end(min(leaving & play.states.keys()))
        elif what == "ready" and some is not None:
            play.states[some] = State.READY
            play.step()
        elif what == "pass":
            for _ in range(4 * which):
                play.pass_seconds(0.25)
                if not note(play.actions):
                    return
            continue
        elif what == "absent":
            play.now += 10.0 * which
            play.step()
        elif what == "replace":
            play.fleet.replace()
            play.step()
        elif what == "scale":
            play.fleet.scale(1 + which)
            play.step()
        if not note(play.actions):
            return


def test_full_workers_get_no_connections_while_others_have_room() -> None:
    play = Play(workers=3).started()
    play.full = {"worker-1"}
    assert play.step() == [("steer", "0", "2")]
    play.full = {"worker-0", "worker-1"}
    assert play.step() == [("steer", "2")]
    # New connections wait where a client may leave first.
    play.full = {"worker-0", "worker-1", "worker-2"}
    assert play.step() == [("steer", "0", "1", "2")]
    play.full = {"worker-0"}
    assert play.step() == [("steer", "1", "2")]
    play.full.clear()
    assert play.step() == [("steer", "0", "1", "2")]


def test_workers_with_a_stream_that_stands_still_get_no_connections_while_others_serve_all() -> (
    None
):
    play = Play(workers=3).started()
    play.disputes = {"worker-1"}
    play.full = {"worker-2"}
    assert play.step() == [("steer", "0")]
    play.disputes = {"worker-0", "worker-1", "worker-2"}
    assert play.step() == [("steer", "0", "1", "2")]
    play.disputes.clear()
    assert play.step() == [("steer", "0", "1")]
