from __future__ import annotations

from energyws.protocol.snapshot_told import SnapshotTold


def test_what_nobody_knows_is_null() -> None:
    assert SnapshotTold(False, None, None).as_json("ab-7") == {
        "position": "ab-7",
        "complete": False,
        "since": None,
        "keys": None,
    }


def test_since_is_in_utc() -> None:
    told = SnapshotTold(False, 1_766_752_496_789, 3).as_json("ab-7")
    assert told == {
        "position": "ab-7",
        "complete": False,
        "since": "2025-12-26T12:34:56.789Z",
        "keys": 3,
    }
