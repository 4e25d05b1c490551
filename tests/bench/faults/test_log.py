"""Where records are, by number and by key."""

from __future__ import annotations

from bench.faults.log import Log
from energyws.protocol.position import parse

# Number 2 was never written; the topic was then recreated.
LOG = Log([[(0, 5), (0, 7), None, (1, 0), (1, 1)]], [["a", "b", "a", "a", "b"]], {"ab": 0})


def test_numbers_before_a_position() -> None:
    assert [LOG.past(parse(f"ab-{offset}")) for offset in (0, 5, 6, 7, 8, 99)] == [
        *([0], [0], [1], [1], [3], [3])
    ]


def test_unknown_epoch_is_that_of_the_newest_log() -> None:
    assert [LOG.past(parse(f"cd-{offset}")) for offset in (0, 1, 2)] == [[3], [4], [5]]


def test_a_record_tells_the_log_of_its_epoch() -> None:
    log = Log([[(0, 0), (1, 0)]], [["a", "a"]], {})
    assert log.past(parse("ab-1")) == [2]
    log.seen(0, 0, "ab")
    log.seen(0, 7, "cd")
    assert log.past(parse("ab-1")) == [1]


def test_numbers_of_keys() -> None:
    assert LOG.wanted({"a"}, 0, 0, 5) == [0, 3]
    assert LOG.wanted({"a", "b"}, 0, 1, 4) == [1, 3]
    assert LOG.wanted({"c"}, 0, 0, 5) == []


def test_newest_record_of_a_key_below_numbers() -> None:
    assert LOG.newest("a", [5]) == {(0, 3)}
    assert LOG.newest("a", [3]) == {(0, 0)}
    assert LOG.newest("a", [0]) == LOG.newest("c", [5]) == set()


def test_empty_log_has_nothing() -> None:
    assert Log([[]], [[]], {}).past(parse("ab-3")) == [0]
