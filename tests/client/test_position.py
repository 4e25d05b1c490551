"""The client's positions are the service's: the same texts, the same bounds, the same merge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.client import position as ours
from energyws.protocol import position as theirs

EPOCHS = st.text("0123456789abcdef", min_size=1, max_size=16)
OFFSETS = st.lists(st.integers(0, theirs.MAX_OFFSET), min_size=1, max_size=6).map(tuple)
# Few epochs, so that two positions often have the same one.
POSITIONS = st.builds(theirs.Position, st.sampled_from(["7f3a90c2", "0"]), OFFSETS)


@given(st.builds(theirs.Position, EPOCHS, OFFSETS))
def test_text_of_the_service_is_parsed_and_written_alike(position: theirs.Position) -> None:
    parsed = ours.parse(str(position))
    assert (parsed.epoch, parsed.offsets, str(parsed)) == (
        position.epoch,
        position.offsets,
        str(position),
    )


@given(POSITIONS, POSITIONS)
def test_merge_is_that_of_the_service(one: theirs.Position, other: theirs.Position) -> None:
    merged = ours.parse(str(one)).merge(ours.parse(str(other)))
    assert str(merged) == str(one.merge(other))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7f",
        "7f-",
        "7F-1",
        "7f-1.",
        "7f-01",
        "7f--1",
        "7f-1e3",
        "7f-\u0661",
        f"7f-{theirs.MAX_OFFSET + 1}",
        "7f-" + ".".join(["1"] * (theirs.MAX_PARTITIONS + 1)),
        "7f-" + "1" * (theirs.MAX_TEXT_LENGTH + 1),
    ],
)
def test_text_that_the_service_refuses_is_refused(text: str) -> None:
    with pytest.raises(theirs.BadPosition) as expected:
        theirs.parse(text)
    with pytest.raises(ours.BadPosition) as found:
        ours.parse(text)
    assert str(found.value) == str(expected.value)


def test_longest_position_of_the_service_is_parsed() -> None:
    text = "f" * 16 + "-" + ".".join([str(theirs.MAX_OFFSET)] * theirs.MAX_PARTITIONS)
    assert str(ours.parse(text)) == str(theirs.parse(text)) == text
