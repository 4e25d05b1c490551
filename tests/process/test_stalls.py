"""The reasons for stalls, as operators read them."""

from __future__ import annotations

from energyws.process.stalls import WHOLE, WORDS, Stall, reasons


def test_every_stall_has_a_text() -> None:
    assert set(WORDS) == set(Stall) - {Stall.NONE}


def test_partitions_with_the_same_stall_share_a_reason() -> None:
    stalls = [
        ("b", WHOLE, Stall.NO_TOPIC),
        ("a", 3, Stall.NO_LEADER),
        ("a", 1, Stall.NO_LEADER),
        ("a", 1, Stall.NO_LEADER),
        ("a", 2, Stall.NO_ANSWER),
        ("a", 0, Stall.NONE),
    ]
    assert reasons(stalls) == [
        "stream a, partitions 1, 3: no broker leads it",
        "stream a, partition 2: its broker does not answer",
        "stream b: the topic does not exist",
    ]


def test_many_partitions_are_counted_instead_of_listed() -> None:
    (reason,) = reasons(("a", partition, Stall.FAILS) for partition in range(20))
    assert reason == "stream a, partitions 0, 1, 2, 3, 4, 5, 6, 7 and 12 more: reading it fails"


def test_without_stalls_there_is_no_reason() -> None:
    assert reasons([("a", 0, Stall.NONE)]) == []
