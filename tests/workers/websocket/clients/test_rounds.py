"""Rounds of turns, spread evenly over ticks."""

from __future__ import annotations

from collections import Counter

from workers.websocket.clients.rounds import Rounds

TICK = 0.5


def test_each_has_one_turn_in_an_interval() -> None:
    rounds: Rounds[int] = Rounds(TICK)
    had: Counter[int] = Counter()
    most = 0
    for tick in range(20):
        due = rounds.turns(range(1_000), tick * TICK, 5.0)
        had.update(due)
        most = max(most, len(due))
    assert set(had.values()) == {2}
    assert most == 100


def test_nobody_has_two_turns_in_an_interval_however_few_there_are() -> None:
    rounds: Rounds[int] = Rounds(TICK)
    had = [rounds.turns([1], tick * TICK, 5.0) for tick in range(20)]
    assert had == ([[1]] + [[]] * 9) * 2


def test_an_interval_shorter_than_a_tick_is_a_turn_for_all_in_each() -> None:
    rounds: Rounds[int] = Rounds(TICK)
    for tick in range(3):
        assert sorted(rounds.turns(range(7), tick * TICK, 0.1)) == list(range(7))


def test_another_interval_takes_effect_within_a_round() -> None:
    rounds: Rounds[int] = Rounds(TICK)
    assert len(rounds.turns(range(7_200), 0.0, 3_600.0)) == 1
    assert len(rounds.turns(range(7_200), 0.5, 36.0)) == 100
    few: Rounds[int] = Rounds(TICK)
    assert few.turns([1], 0.0, 3_600.0) == [1]
    assert few.turns([1], 4.5, 5.0) == []
    assert few.turns([1], 5.0, 5.0) == [1]


def test_there_may_be_nobody() -> None:
    rounds: Rounds[int] = Rounds(TICK)
    assert rounds.turns([], 0.0, 5.0) == []
    assert rounds.turns([1], 5.0, 5.0) == [1]
