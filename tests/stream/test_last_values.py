"""The table of last values, against the fold of the log."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol.keys import KeyFilter
from energyws.stream.last_values import ABSENT_BYTES, ENTRY_BYTES, LastValues, Value

UNBOUNDED = 1 << 40
KEYS = st.sampled_from([b"a", b"b", b"ab", b"c"])
# A key, a timestamp, and whether the record has a value; in order of time, as in most partitions.
RECORDS = st.lists(st.tuples(KEYS, st.integers(0, 9), st.booleans()), max_size=12).map(
    lambda records: sorted(records, key=lambda record: record[1])
)


def table(max_keys: int = UNBOUNDED, max_bytes: int = UNBOUNDED) -> LastValues:
    return LastValues(max_keys, max_bytes)


def data(partition: int, offset: int, *, has_value: bool = True) -> bytes | None:
    return b'{"p":%d,"o":%d}' % (partition, offset) if has_value else None


def contents(values: LastValues) -> dict[bytes, bytes]:
    scanned = values.scan(0, values.changes, None, UNBOUNDED, UNBOUNDED)
    assert scanned.next_slot is None
    found = {value.key: value.data for value in scanned.values}
    assert len(found) == len(scanned.values) == len(values)
    assert all(values.find(value.key) == value for value in scanned.values)
    return found


@given(st.lists(st.tuples(KEYS, st.booleans())))
def test_live_records_are_folded(records: list[tuple[bytes, bool]]) -> None:
    values, fold = table(), dict[bytes, bytes | None]()
    values.warmed(None)
    for offset, (key, has_value) in enumerate(records):
        # Their timestamps say nothing.
        values.put(key, -offset, data(0, offset, has_value=has_value))
        fold[key] = data(0, offset, has_value=has_value)
    assert contents(values) == {key: value for key, value in fold.items() if value is not None}
    assert values.complete
    assert values.bytes == sum(
        ENTRY_BYTES + len(key) + len(value) for key, value in contents(values).items()
    )


@pytest.mark.parametrize("max_keys", [1, 2, UNBOUNDED])
@given(partitions=st.lists(RECORDS, min_size=2, max_size=3), live=RECORDS, chance=st.data())
def test_old_records_may_come_in_any_order_and_meanwhile(
    max_keys: int,
    partitions: list[list[tuple[bytes, int, bool]]],
    live: list[tuple[bytes, int, bool]],
    chance: st.DataObject,
) -> None:
    """Each partition has old records, of which the last ones are read back; then live ones come."""
    values = table(max_keys)
    newest: dict[bytes, int] = {}
    rows: list[Iterator[tuple[bytes, int, bytes | None, int, bool]]] = []
    for partition, records in enumerate(partitions):
        cut = chance.draw(st.integers(0, len(records)))
        row = [
            (key, ms, data(partition, offset, has_value=has), partition, offset >= cut)
            for offset, (key, ms, has) in enumerate(records)
        ]
        rows += [iter(row[:cut]), iter(row[cut:])]
    steps = [("live", each) for each in live]
    turns = chance.draw(st.permutations([*range(len(rows))] * 12 + [-1] * len(steps)))
    offset = 0
    for turn in turns:
        if turn < 0:
            key, ms, has = live[offset]
            values.put(key, ms, data(9, offset, has_value=has))
            offset += 1
        elif (old := next(rows[turn], None)) is not None:
            key, ms, value, partition, read_back = old
            values.put_old(key, ms, value, partition, read_back=read_back)
        assert len(values) <= len(values._origins) <= max_keys
    values.warmed(None)
    fold: dict[bytes, set[bytes | None]] = {}
    for partition, records in enumerate(partitions):
        last: dict[bytes, tuple[int, bytes | None]] = {}
        for at, (key, ms, has) in enumerate(records):
            last[key] = ms, data(partition, at, has_value=has)
        for key, (ms, value) in last.items():
            if key not in newest or ms > newest[key]:
                newest[key], fold[key] = ms, {value}
            elif ms == newest[key]:
                fold[key].add(value)
    for at, (key, ms, has) in enumerate(live):
        newest[key], fold[key] = ms, {data(9, at, has_value=has)}
    found = contents(values)
    for key, candidates in fold.items():
        # A key that was dropped has no record since then.
        was_dropped = key not in found and newest[key] < (values.since_ms or 0)
        assert was_dropped or found.pop(key, None) in candidates
    assert not found


def test_later_record_of_a_partition_counts_whatever_its_time() -> None:
    values = table()
    values.put_old(b"a", 9, b"1", 0, read_back=False)
    values.put_old(b"a", 5, b"2", 0, read_back=False)
    assert values.find(b"a") == Value(b"a", 5, b"2")
    values.put_old(b"a", 1, b"3", 0, read_back=True)
    values.put_old(b"a", 99, b"4", 0, read_back=False)
    assert values.find(b"a") == Value(b"a", 1, b"3")
    values.put_old(b"a", 2, b"5", 1, read_back=False)
    assert values.find(b"a") == Value(b"a", 2, b"5")


def test_removed_key_does_not_come_back_with_an_older_record() -> None:
    values = table()
    values.put(b"live", 5, None)
    values.put_old(b"live", 9, b"1", 0, read_back=False)
    values.put_old(b"old", 5, None, 0, read_back=True)
    values.put_old(b"old", 4, b"2", 0, read_back=False)
    values.put_old(b"old", 4, b"3", 1, read_back=False)
    assert contents(values) == {}
    values.put_old(b"old", 6, b"4", 1, read_back=False)
    assert contents(values) == {b"old": b"4"}


def test_key_that_was_unchanged_for_longest_goes_first() -> None:
    values = table(max_keys=2)
    values.put_old(b"old", 1_000, b"{}", 0, read_back=False)
    values.put(b"a", 2_000, b"{}")
    values.put(b"b", 3_000, b"{}")
    values.put_old(b"older", 900, b"{}", 0, read_back=False)
    values.warmed(None)
    assert sorted(contents(values)) == [b"a", b"b"]
    assert (values.complete, values.since_ms) == (False, 1_001)
    values.put(b"a", 4_000, b"{}")
    values.put(b"c", 5_000, b"{}")
    assert sorted(contents(values)) == [b"a", b"c"]
    assert values.since_ms == 3_001


def test_dropped_key_comes_back_with_a_later_record_only() -> None:
    values = table(max_keys=1)
    values.put_old(b"a", 5, b"1", 0, read_back=False)
    values.put_old(b"b", 6, b"2", 0, read_back=False)
    values.put_old(b"a", 4, b"3", 1, read_back=False)
    assert contents(values) == {b"b": b"2"}
    values.put_old(b"a", 7, b"4", 1, read_back=False)
    assert contents(values) == {b"a": b"4"}


def test_of_records_of_one_moment_the_last_ones_stay() -> None:
    values = table(max_keys=3)
    for number in range(9):
        values.put_old(b"k%d" % number, 5, b"{}", 0, read_back=True)
    assert sorted(contents(values)) == [b"k6", b"k7", b"k8"]


def test_what_it_remembers_while_it_gets_warm_is_bounded() -> None:
    values = table(max_keys=10)
    for number in range(1_000):
        values.put_old(b"k%d" % number, number, b"{}", number % 3, read_back=False)
    assert len(values._origins) <= 10
    values.put_old(b"k7", 800, b"{}", 2, read_back=False)
    assert values.find(b"k7") is None
    values.put_old(b"k7", 999, b"{}", 2, read_back=False)
    assert values.find(b"k7") == Value(b"k7", 999, b"{}")
    values.warmed(None)
    assert (values.complete, values.since_ms) == (False, 991)


@pytest.mark.parametrize("bounds", [{"max_keys": 10}, {"max_bytes": 10 * ABSENT_BYTES}])
@pytest.mark.parametrize("how", ["live", "read back", "old"])
def test_removed_keys_that_it_remembers_while_it_gets_warm_are_bounded(
    how: str, bounds: dict[str, int]
) -> None:
    values = table(**bounds)
    for number in range(1_000):
        key = b"k%d" % number
        if how == "live":
            values.put(key, 500, None)
        else:
            values.put_old(key, 500, None, 0, read_back=how == "read back")
        assert len(values._origins) <= 10
        assert values.bytes <= 10 * 2 * ABSENT_BYTES
    # Before it in its partition, though not by its time.
    values.put_old(b"k7", 900, b"{}", 1 if how == "old" else 0, read_back=False)
    # Before it, if it is another partition's.
    values.put_old(b"k8", 400, b"{}", 1, read_back=False)
    values.warmed(None)
    kept = [b"k7"] if how == "old" else []
    assert [*contents(values)] == kept
    # Nobody can tell whether what was left out had a record.
    assert (values.complete, values.since_ms) == (False, 401 if how == "old" else 901)
    assert values.bytes == sum(ENTRY_BYTES + len(key) + len(b"{}") for key in kept)


def test_removed_keys_that_are_forgotten_leave_it_complete_if_nothing_was_left_out() -> None:
    values = table(max_keys=2)
    values.put_old(b"first", 50, b"{}", 0, read_back=False)
    for number in range(100):
        values.put_old(b"k%d" % number, 100 + number, None, 0, read_back=False)
    values.put_old(b"last", 500, b"{}", 0, read_back=False)
    values.warmed(None)
    assert sorted(contents(values)) == [b"first", b"last"]
    assert values.complete


@pytest.mark.parametrize("size", [10, 1_000])
def test_bytes_are_bounded(size: int) -> None:
    values = table(max_bytes=10_000)
    values.warmed(None)
    rng = random.Random(size)
    for number in range(500):
        values.put(b"k%d" % rng.randrange(200), number, b"x" * rng.randrange(1, size))
        assert values.bytes <= 10_000
    kept = contents(values)
    assert values.bytes == sum(ENTRY_BYTES + len(k) + len(v) for k, v in kept.items())
    since = values.since_ms
    assert since is not None
    # A value that does not fit at all leaves nothing, and is known to be missing.
    values.put(b"huge", 600, b"x" * 20_000)
    assert contents(values) == {}
    assert values.since_ms == 601


def test_it_says_what_it_has() -> None:
    values = table()
    assert (values.complete, values.since_ms) == (False, None)
    values.warmed(7_000)
    assert (values.complete, values.since_ms) == (False, 7_000)
    values.lacks()
    assert (values.complete, values.since_ms) == (False, None)
    everything = table()
    everything.warmed(None)
    assert (everything.complete, everything.since_ms) == (True, None)


@given(st.integers(0, 2**32))
def test_scan_and_the_changes_since_are_the_fold(seed: int) -> None:
    rng = random.Random(seed)
    values = table(max_keys=rng.choice([20, UNBOUNDED]))
    values.warmed(None)

    def change() -> tuple[bytes, bytes | None]:
        key = b"k%d" % rng.randrange(30)
        value = None if rng.random() < 0.2 else b"%d" % rng.randrange(1_000)
        values.put(key, 0, value)
        return key, value

    for _ in range(rng.randrange(60)):
        change()
    keys = rng.choice([None, KeyFilter(frozenset([b"k5"]), (b"k1",))])
    begun, slot = values.changes, 0
    seen, later = dict[bytes, bytes](), dict[bytes, bytes | None]()
    while True:
        step = values.scan(slot, begun, keys, 7, rng.choice([3, UNBOUNDED]))
        for value in step.values:
            assert value.key not in seen
            seen[value.key] = value.data
        if step.next_slot is None:
            break
        slot = step.next_slot
        for _ in range(rng.randrange(4)):
            later.update([change()])
    fold = {key: value for key, value in {**seen, **later}.items() if value is not None}
    if keys is not None:
        fold = {key: value for key, value in fold.items() if keys.admits(key)}
    for key, value in contents(values).items():
        if keys is None or keys.admits(key):
            assert fold.pop(key) == value
    # What was dropped meanwhile may have been seen before.
    assert not fold or values.since_ms
