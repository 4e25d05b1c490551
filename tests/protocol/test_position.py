from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from energyws.protocol.position import (
    MAX_OFFSET,
    MAX_PARTITIONS,
    MAX_TEXT_LENGTH,
    BadPosition,
    Position,
    from_offsets,
    parse,
)

EPOCH = "7f3a90c2"

epochs = st.text("0123456789abcdef", min_size=1, max_size=16)
offsets = st.integers(0, 9) | st.integers(0, MAX_OFFSET)
vectors = st.lists(offsets, min_size=1, max_size=6).map(tuple)
positions = st.builds(Position, epochs, vectors)
same_epoch = st.builds(Position, st.just(EPOCH), vectors)
partitions = st.integers(0, 8)

REFUSED = {
    "empty": "",
    "no dash": "x",
    "epoch only": "7f3a",
    "no offsets": "7f3a-",
    "no epoch": "-1",
    "dash only": "-",
    "offset missing at the end": "7f3a-1.",
    "offset missing at the beginning": "7f3a-.1",
    "offset missing in the middle": "7f3a-1..2",
    "leading zero": "7f3a-01",
    "two zeros": "7f3a-00",
    "negative": "7f3a--1",
    "signed": "7f3a-+1",
    "exponent": "7f3a-1e3",
    "hexadecimal offset": "7f3a-a",
    "underscore": "7f3a-1_0",
    "arabic digits": "7f3a-١٢",
    "fullwidth digits": "7f3a-１",
    "superscript": "7f3a-1²",
    "arabic digits in the epoch": "٧f3a-1",
    "2**63": f"7f3a-{2**63}",
    "2**63 after a good one": f"7f3a-1.{2**63}",
    "twenty digits": "7f3a-" + "1" * 20,
    "too many partitions": "7f3a-" + ".".join("0" * (MAX_PARTITIONS + 1)),
    "newline at the end": "7f3a-1\n",
    "newline at the beginning": "\n7f3a-1",
    "space at the end": "7f3a-1 ",
    "space inside": "7f3a-1. 2",
    "zero byte": "7f3a-1\0",
    "upper-case epoch": "7F3A-1",
    "epoch not in hexadecimal": "7g3a-1",
    "epoch of seventeen digits": "0123456789abcdef0-1",
    "comma": "7f3a-1,2",
    "two dashes": "7f3a-1-2",
    "json": '{"energy":"7f3a-1"}',
    "lone surrogate": "7f3a-1\ud800",
    "one character too long": f"{'f' * 16}-" + "1." * ((MAX_TEXT_LENGTH - 17) // 2) + "1",
}


@given(positions)
@example(Position("0", (0,)))
@example(Position("f" * 16, (MAX_OFFSET,) * MAX_PARTITIONS))
def test_parse_is_the_inverse_of_str(position: Position) -> None:
    assert parse(str(position)) == position


def test_text_is_as_documented() -> None:
    assert str(Position("7f3a90c2", (1042, 998, 17))) == "7f3a90c2-1042.998.17"


def test_longest_position_is_within_the_limit() -> None:
    longest = Position("f" * 16, (MAX_OFFSET,) * MAX_PARTITIONS)

    assert MAX_TEXT_LENGTH - 1 <= len(str(longest)) <= MAX_TEXT_LENGTH


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_invalid_text_is_refused(text: str) -> None:
    with pytest.raises(BadPosition, match=r"^not a position: "):
        parse(text)


@given(st.text("0123456789abf.-\n ", max_size=30) | st.text(max_size=30))
def test_parse_accepts_only_the_exact_text_of_a_position(text: str) -> None:
    try:
        position = parse(text)
    except BadPosition:
        return
    assert str(position) == text


@pytest.mark.parametrize(
    "text", ["1" * 10_000_000, "7f3a-" + "1." * 5_000_000, "f" * 10_000_000 + "-1"], ids=len
)
def test_huge_text_is_refused_without_parsing(text: str) -> None:
    begin = time.process_time()
    for _ in range(100):
        with pytest.raises(BadPosition):
            parse(text)

    assert time.process_time() - begin < 1.0


def test_refusal_does_not_repeat_the_text() -> None:
    with pytest.raises(BadPosition) as refused:
        parse("canary")

    assert "canary" not in str(refused.value)


def test_from_offsets_takes_any_iterable() -> None:
    assert from_offsets("7f", iter([3, 0])) == Position("7f", (3, 0))


@given(same_epoch, partitions, offsets)
def test_position_covers_offsets_below_the_next_one(
    position: Position, partition: int, offset: int
) -> None:
    assert position.covers(partition, offset) is (offset < position.next_offset(partition))


def test_partition_added_later_begins_at_zero() -> None:
    position = Position(EPOCH, (5,))

    assert position.next_offset(1) == 0
    assert not position.covers(1, 0)


@given(same_epoch, partitions, offsets, partitions, offsets)
def test_after_covers_one_partition_up_to_the_record(
    position: Position, partition: int, offset: int, other_partition: int, other_offset: int
) -> None:
    later = position.after(partition, offset)

    assert later.epoch == position.epoch
    assert later.covers(other_partition, other_offset) is (
        position.covers(other_partition, other_offset)
        or (other_partition == partition and other_offset <= offset)
    )


@given(same_epoch, same_epoch, partitions, offsets)
def test_merged_position_covers_every_offset_that_either_covers(
    one: Position, other: Position, partition: int, offset: int
) -> None:
    assert one.merge(other).covers(partition, offset) is (
        one.covers(partition, offset) or other.covers(partition, offset)
    )


@given(same_epoch, same_epoch)
def test_merge_is_commutative(one: Position, other: Position) -> None:
    assert one.merge(other) == other.merge(one)


@given(same_epoch, same_epoch, same_epoch)
def test_merge_is_associative(a: Position, b: Position, c: Position) -> None:
    assert a.merge(b).merge(c) == a.merge(b.merge(c))


@given(same_epoch, same_epoch)
def test_merge_is_idempotent(one: Position, other: Position) -> None:
    merged = one.merge(other)

    assert one.merge(one) == one
    assert merged.merge(one) == merged.merge(other) == merged


@given(positions, positions)
def test_merge_takes_the_other_epoch(one: Position, other: Position) -> None:
    if one.epoch != other.epoch:
        assert one.merge(other) == other


@given(same_epoch, same_epoch)
def test_beyond_means_that_merging_would_advance_the_other(one: Position, other: Position) -> None:
    merged = other.merge(one)

    assert one.beyond(other) is any(
        merged.next_offset(p) != other.next_offset(p) for p in range(len(merged.offsets))
    )


BEYOND = {
    "equal": ((1, 2), (1, 2), False),
    "behind": ((1, 1), (1, 2), False),
    "ahead in one": ((0, 3), (9, 2), True),
    "ahead in a partition that the other does not have": ((1, 1), (1,), True),
    "at zero in a partition that the other does not have": ((1, 0), (1,), False),
    "fewer partitions": ((1,), (1, 5), False),
}


@pytest.mark.parametrize(("one", "other", "beyond"), BEYOND.values(), ids=BEYOND.keys())
def test_beyond(one: tuple[int, ...], other: tuple[int, ...], beyond: bool) -> None:
    assert Position(EPOCH, one).beyond(Position(EPOCH, other)) is beyond


@settings(max_examples=20)
@given(positions)
def test_positions_are_values(position: Position) -> None:
    assert len({position, Position(position.epoch, position.offsets)}) == 1
