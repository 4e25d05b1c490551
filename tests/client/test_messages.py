"""Readings, gaps and positions from the messages of the service."""

from __future__ import annotations

from typing import Any

import pytest

from energyws.client.messages import Gap, Message, Reader, Reading, Removed, Snapshot
from energyws.client.position import BadPosition


def data(position: str, stream: str = "energy", **more: Any) -> dict[str, Any]:
    message = {"type": "data", "stream": stream, "timestamp": "t", "data": {"n": 1}}
    return {**message, **more, "id": position}


def snapshot(key: str) -> dict[str, Any]:
    message = {"type": "snapshot", "stream": "energy", "key": key, "timestamp": "t"}
    return {**message, "data": {"n": 1}}


def moved(position: str, **more: Any) -> dict[str, Any]:
    return {"type": "position", "stream": "energy", "id": position, **more}


def lagged(to: str) -> dict[str, Any]:
    return {"type": "lagged", "stream": "energy", "missed": 4, "to": to, "reason": "LAGGED"}


def subscribed(**state: Any) -> dict[str, Any]:
    return {"type": "subscribed", "positions": {"energy": state}}


def with_snapshot(answer: dict[str, Any], **state: Any) -> dict[str, Any]:
    told = {"position": "aa-9", "complete": True, "since": None, "keys": 2}
    return {**answer, "snapshots": {"energy": {**told, **state}}}


def read(reader: Reader, *messages: dict[str, Any]) -> list[Message]:
    return [found for message in messages for found in reader.take(message)]


def fresh() -> Reader:
    return made({})


def made(
    resume: dict[str, str], *, is_bounded: bool = False, tells_removals: bool = False
) -> Reader:
    return Reader(resume, is_bounded=is_bounded, tells_removals=tells_removals)


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
    reader = made({"energy": "aa-100"})
    lost = subscribed(position="bb-9", recovered=False, reason="EPOCH_CHANGED", earliest="bb-9")

    assert read(reader, lost) == [Gap("energy", None, "EPOCH_CHANGED", "bb-9", None, "bb-9")]
    assert reader.positions == {"energy": "bb-9"}


def test_gap_after_a_resume_has_the_missing_records_of_each_partition() -> None:
    reader = made({"energy": "aa-1.9"})
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
    reader = made({}, is_bounded=is_bounded)
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
        made({"energy": "?"})


def test_reading_has_its_key() -> None:
    (reading,) = read(fresh(), data("aa-1", key="735"))

    assert reading == Reading("energy", "t", {"n": 1}, "aa-1", "735")


def test_position_moves_the_client_and_nothing_else() -> None:
    reader = fresh()

    assert read(reader, data("aa-5.0"), moved("aa-2.3"))[1:] == []
    assert reader.positions == {"energy": "aa-5.3"}
    assert reader.conflated == 0


def test_superseded_records_are_counted() -> None:
    reader = fresh()
    read(reader, moved("aa-5", conflated=4), moved("aa-9", conflated=3))

    assert reader.conflated == 7


@pytest.mark.parametrize("tells_removals", [True, False])
def test_removal_moves_the_client_and_is_told_to_whom_keys_are_known(tells_removals: bool) -> None:
    reader = made({}, tells_removals=tells_removals)
    removed = {"type": "removed", "stream": "energy", "timestamp": "t", "key": "a", "id": "aa-3"}

    assert read(reader, removed) == [Removed("energy", "t", "a", "aa-3")] * tells_removals
    assert reader.positions == {"energy": "aa-3"}


def test_snapshot_has_no_position_until_it_ends() -> None:
    reader = fresh()
    answer = with_snapshot(subscribed(position="aa-9"), complete=False, since="t0")

    assert read(reader, answer, snapshot("a"), snapshot("b")) == [
        Reading("energy", "t", {"n": 1}, "", key, is_snapshot=True) for key in "ab"
    ]
    assert reader.positions == {}
    assert reader.snapshots == {"energy": Snapshot(complete=False, since="t0", keys=2)}
    assert read(reader, moved("aa-9")) == []
    assert reader.positions == {"energy": "aa-9"}


def test_snapshot_that_had_less_than_was_promised_says_so_at_its_end() -> None:
    reader = Reader({}, is_bounded=False, tells_removals=False)
    read(reader, with_snapshot(subscribed(position="aa-9")))
    assert reader.snapshots["energy"].complete
    had = {"position": "aa-9", "complete": False, "since": "t0", "keys": 2}
    read(reader, moved("aa-9", snapshot=had))
    assert reader.snapshots == {"energy": Snapshot(complete=False, since="t0", keys=2)}


def test_snapshot_after_a_failed_resume_replaces_the_position() -> None:
    reader = made({"energy": "aa-1"})
    lost = subscribed(position="aa-9", recovered=False, reason="RETENTION", earliest="aa-6")

    assert read(reader, with_snapshot(lost)) == [
        Gap("energy", None, "RETENTION", "aa-9", None, "aa-6")
    ]
    assert reader.positions == {}
    # The connection broke during the snapshot: what is missing is told once.
    assert read(reader, with_snapshot(subscribed(position="aa-9")), moved("aa-9")) == []
    assert reader.positions == {"energy": "aa-9"}
