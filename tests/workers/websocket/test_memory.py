"""When connections are frozen, and when memory is returned to the system."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from workers.websocket import memory
from workers.websocket.memory import FREEZE_AFTER, TRIM_AFTER, MemoryUpkeep


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A list that grows by one with each trim; restores the garbage collector afterwards."""
    seen: list[int] = []
    thresholds = gc.get_threshold()
    monkeypatch.setattr(memory, "trim", lambda: seen.append(1))
    yield seen
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_many_new_connections_are_frozen(trims: list[int]) -> None:
    keeper = MemoryUpkeep()
    keeper.begin()
    frozen = gc.get_freeze_count()
    held = [[] for _ in range(100)]  # type: list[list[int]]
    keeper.tick(FREEZE_AFTER - 1)
    assert gc.get_freeze_count() == frozen
    keeper.tick(FREEZE_AFTER)
    assert gc.get_freeze_count() >= frozen + len(held)


def test_connections_are_frozen_again_after_a_reconnect(trims: list[int]) -> None:
    keeper = MemoryUpkeep()
    for connections in (FREEZE_AFTER, 0):
        keeper.tick(connections)
    frozen = gc.get_freeze_count()
    held = [[] for _ in range(100)]  # type: list[list[int]]
    keeper.tick(FREEZE_AFTER)
    assert gc.get_freeze_count() >= frozen + len(held)


def test_memory_is_trimmed_once_many_connections_have_closed(trims: list[int]) -> None:
    keeper = MemoryUpkeep()
    for connections in (2 * TRIM_AFTER, TRIM_AFTER, TRIM_AFTER // 2):
        keeper.tick(connections)
        assert not trims, "connections are still closing"
    keeper.tick(TRIM_AFTER // 2)
    keeper.tick(TRIM_AFTER // 2)
    assert len(trims) == 1


def test_memory_is_trimmed_after_a_crowd_that_no_tick_saw(trims: list[int]) -> None:
    keeper = MemoryUpkeep()
    keeper.tick(5, 5)
    keeper.tick(5, 5 + TRIM_AFTER)
    keeper.tick(5, 5)
    assert len(trims) == 1


def test_few_closed_connections_cause_no_trim(trims: list[int]) -> None:
    keeper = MemoryUpkeep()
    for connections in (TRIM_AFTER, 1, 1, 1):
        keeper.tick(connections)
    assert not trims


def test_frozen_objects_are_collected_when_few_connections_remain(
    trims: list[int],
) -> None:
    class Knot:
        """An object that refers to itself."""

    keeper = MemoryUpkeep()
    knot = Knot()
    knot.self = knot  # type: ignore[attr-defined]
    keeper.tick(2 * TRIM_AFTER)
    del knot
    for _ in range(2):
        keeper.tick(0)
    assert not [each for each in gc.get_objects() if isinstance(each, Knot)]
    gc.unfreeze()
    assert not [each for each in gc.get_objects() if isinstance(each, Knot)]


def test_trim_is_harmless() -> None:
    memory.trim()
