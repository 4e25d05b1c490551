"""When heartbeats are due."""

from __future__ import annotations

import pytest

from workers.bus.heartbeats import LONGEST_SECONDS, Heartbeats


def sent_at(heartbeats: Heartbeats, count: int) -> list[float]:
    """The times of the next heartbeats, each sent when it is due."""
    times = []
    for _ in range(count):
        times.append(round(heartbeats.due, 3))
        heartbeats.sent(heartbeats.due)
    return times


def idle(until: float) -> Heartbeats:
    """Heartbeats of which all before this time were sent, with nothing else to send."""
    heartbeats = Heartbeats(0.1, 0.0)
    while heartbeats.due < until:
        heartbeats.sent(heartbeats.due)
    return heartbeats


def test_pauses_double_up_to_the_longest() -> None:
    heartbeats = Heartbeats(0.1, 5.0)
    assert sent_at(heartbeats, 8) == [5.0, 5.1, 5.3, 5.7, 6.5, 7.5, 8.5, 9.5]


def test_first_pause_above_the_longest_stays() -> None:
    first = 3 * LONGEST_SECONDS
    assert sent_at(Heartbeats(first, 0.0), 3) == [0.0, first, 2 * first]


def test_frames_take_the_place_of_heartbeats() -> None:
    heartbeats = idle(20.0)
    for now in (20.0, 20.05, 20.1, 20.15):
        heartbeats.published(now)
        assert heartbeats.due == now + 0.1
    assert sent_at(heartbeats, 3) == [20.25, 20.35, 20.55]


def test_frames_do_not_postpone_a_heartbeat_for_ever() -> None:
    heartbeats = Heartbeats(0.1, 0.0)
    heartbeats.sent(0.0)
    times = []
    for count in range(1, 70):
        now = count * 0.05
        if now >= heartbeats.due:
            heartbeats.sent(now)
            times.append(round(now, 3))
        heartbeats.published(now)
    assert times == [1.0, 2.0, 3.0]


def test_head_without_a_frame_is_told_although_frames_follow() -> None:
    heartbeats = idle(20.0)
    heartbeats.head_moved(20.0)
    for now in (20.02, 20.04, 20.06):
        heartbeats.published(now)
        heartbeats.head_moved(now)
    assert sent_at(heartbeats, 2) == [20.1, 20.2]
    heartbeats.published(20.25)
    assert heartbeats.due == 20.35


@pytest.mark.parametrize("event", [Heartbeats.worker_came, Heartbeats.head_moved])
def test_event_after_silence_brings_the_next_heartbeat_forward(event) -> None:
    heartbeats = idle(20.0)
    event(heartbeats, 20.0)
    assert sent_at(heartbeats, 3) == [20.1, 20.2, 20.4]


def test_event_does_not_postpone_a_heartbeat() -> None:
    heartbeats = Heartbeats(0.1, 0.0)
    heartbeats.published(0.5)
    heartbeats.worker_came(0.58)
    assert heartbeats.due == 0.6


def test_new_run_begins_with_the_shortest_pause() -> None:
    heartbeats = idle(20.0)
    heartbeats.head_moved(20.0)
    heartbeats.run_announced(20.05)
    assert heartbeats.due == 20.05 + 0.1
    heartbeats.published(20.1)
    assert heartbeats.due == 20.1 + 0.1


@pytest.mark.parametrize("deaf", [0.15, 0.9, 3.0, 60.0])
def test_worker_that_hears_nothing_for_a_while_is_told_within_twice_that_time(deaf: float) -> None:
    heartbeats = idle(10.0)
    heartbeats.published(10.0)
    while heartbeats.due < 10.0 + deaf:
        heartbeats.sent(heartbeats.due)
    late = heartbeats.due - 10.0 - deaf
    assert late <= min(deaf + 0.1, LONGEST_SECONDS)
