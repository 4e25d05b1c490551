"""Readings, gaps and positions from the messages of the service."""

from __future__ import annotations

from typing import Any

import pytest

from energyws.client.messages import Gap, Message, Reader, Reading
from energyws.client.position import BadPosition


def data(position: str, stream: str = "energy") -> dict[str, Any]:
    return {"type": "data", "stream": stream, "timestamp": "t", "data": {"n": 1}, "id": position}


def lagged(to: str) -> dict[str, Any]:
    return {"type": "lagged", "stream": "energy", "missed": 4, "to": to, "reason": "LAGGED"}


def subscribed(**state: Any) -> dict[str, Any]:
    return {"type": "subscribed", "positions": {"energy": state}}


def read(reader: Reader, *messages: dict[str, Any]) -> list[Message]:
    return [found for message in messages for found in reader.take(message)]


def fresh() -> Reader:
    return Reader({}, is_bounded=False)


def test_data_is_a_reading() -> None:
    assert read(fresh(), data("aa-1")) == [Reading("energy", "t", {"n": 1}, "aa-1")]


def test_subscription_has_a_position_before_the_first_reading() -> None:
    reader = fresh()

    assert read(reader, subscribed(position="aa-7.7")) == []
    assert reader.positions == {"energy": "aa-7.7"}


def test_positions_of_replicas_are_merged() -> None:
    reader = fresh()

    # The second replica is behind in partition 0, and ahead in partition 1.
    read(reader, subscribed(position="aa-0.0"), data("aa-5.0"))
    read(reader, subscribed(position="aa-5.0", recovered=True, replayed=1), data("aa-2.3"))

    assert reader.positions == {"energy": "aa-5.3"}


def test_each_stream_has_its_position() -> None:
    reader = fresh()
    read(reader, data("aa-1"), data("bb-2", "water"))

    assert reader.positions == {"energy": "aa-1", "water": "bb-2"}


def test_failed_resume_is_a_gap_and_a_new_position() -> None:
    reader = Reader({"energy": "aa-100"}, is_bounded=False)
    lost = subscribed(position="bb-9", recovered=False, reason="EPOCH_CHANGED", earliest="bb-9")

    assert read(reader, lost) == [Gap("energy", None, "EPOCH_CHANGED", "bb-9", None, "bb-9")]
    assert reader.positions == {"energy": "bb-9"}


def test_gap_after_a_resume_has_the_missing_records_of_each_partition() -> None:
    reader = Reader({"energy": "aa-1.9"}, is_bounded=False)
    (gap,) = read(
        reader,
        subscribed(
            position="aa-5.9",
            recovered=False,
            reason="RETENTION",
            earliest="aa-6.9",
            missing=[4, 0],
        ),
    )

    assert gap == Gap("energy", 4, "RETENTION", "aa-5.9", (4, 0), "aa-6.9")


@pytest.mark.parametrize("is_bounded", [True, False])
def test_only_a_bounded_request_reports_a_gap_at_its_start(is_bounded: bool) -> None:
    reader = Reader({}, is_bounded)
    cut = subscribed(position="aa-5", recovered=False, reason="RETENTION", earliest="aa-5")

    assert len(read(reader, cut)) == is_bounded
    assert reader.positions == {"energy": "aa-5"}


def test_lagged_is_a_gap() -> None:
    reader = fresh()

    assert read(reader, data("bb-10"), lagged("bb-14"))[1:] == [Gap("energy", 4, "LAGGED", "bb-14")]
    assert reader.positions == {"energy": "bb-14"}


def test_invalid_position_from_the_service_is_ignored() -> None:
    reader = fresh()

    assert len(read(reader, data("aa-1"), data("?"))) == 2
    assert reader.positions == {"energy": "aa-1"}


def test_invalid_position_from_the_application_is_refused() -> None:
    with pytest.raises(BadPosition):
        Reader({"energy": "?"}, is_bounded=False)
