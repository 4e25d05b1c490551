from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.kit.track import Track


def begun(position: str = "ab-5.5", *, dense: bool = True) -> Track:
    track = Track(dense=dense)
    assert track.subscribed({"position": position}) is None
    return track


def test_there_is_no_position_before_the_first_frame() -> None:
    assert Track(dense=True).position is None


@pytest.mark.parametrize(
    ("frames", "dense", "problems"),
    [
        pytest.param(["ab-6.5", "ab-6.6"], True, [None, None], id="in order"),
        pytest.param(["ab-6.5", "ab-6.5"], True, [None, "came before"], id="twice"),
        pytest.param(["ab-6.5", "ab-5.5"], True, [None, "came before"], id="an old one"),
        pytest.param(["ab-8.5"], True, ["2 frames are missing"], id="a gap"),
        pytest.param(["ab-8.5"], False, [None], id="a hole in the log"),
        # Another replica is behind in partition 1, but its next frame is new all the same.
        pytest.param(["ab-6.4", "ab-6.6"], True, [None, None], id="another interleaving"),
        pytest.param(["ab-6.5.1"], True, ["1 frames are missing"], id="a partition was added"),
        pytest.param(["cd-1.0"], True, ["another epoch"], id="another log"),
    ],
)
def test_frames(frames: list[str], dense: bool, problems: list[str | None]) -> None:
    track = begun(dense=dense)
    for frame, problem in zip(frames, problems, strict=True):
        found = track.data(frame)
        assert found == problem or (problem is not None and problem in (found or ""))


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ({"recovered": True, "position": "ab-9.9"}, None),
        (
            {"recovered": False, "reason": "RETENTION", "position": "ab-9.9"},
            "not recovered: RETENTION",
        ),
        ({"position": "ab-9.9"}, "not recovered: None"),
    ],
)
def test_resume_must_be_recovered(reply: dict[str, Any], problem: str | None) -> None:
    assert begun().subscribed(reply) == problem


def test_frame_before_a_position_that_was_told_came_before() -> None:
    track = begun(dense=False)
    track.moved("ab-7.5")
    assert track.position == "ab-7.5"
    assert track.data("ab-7.6") is None
    assert "came before" in (track.data("ab-6.6") or "")


def test_after_a_resume_the_next_frame_is_the_one_after_the_last() -> None:
    track = begun()
    track.data("ab-6.5")
    assert track.subscribed({"recovered": True, "position": "ab-9.9"}) is None
    assert track.data("ab-7.5") is None


def test_reported_gap_is_a_problem_once() -> None:
    track = begun()
    assert track.lagged({"to": "ab-9.5", "reason": "LAGGED"}) == "lagged: LAGGED"
    assert track.data("ab-10.5") is None


@given(st.lists(st.integers(0, 2), min_size=1), st.integers(0, 50))
def test_a_frame_left_out_is_found(steps: list[int], lost: int) -> None:
    offsets = [0, 0, 0]
    track = begun("ab-0.0.0")
    problems = 0
    for number, partition in enumerate(steps):
        offsets[partition] += 1
        if number != lost:
            problems += track.data("ab-" + ".".join(map(str, offsets))) is not None
    # A lost last frame cannot be noticed.
    assert problems == int(lost < len(steps) - 1)
