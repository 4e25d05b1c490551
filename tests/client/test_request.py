"""What a client asks for, and which answers confirm it."""

from __future__ import annotations

from typing import Any

import pytest

from energyws.client.request import Keys, Request, by_stream


def request(**fields: Any) -> Request:
    given = {"streams": ("energy",), "keys": {}, "since": None, "last": None, "snapshot": False}
    return Request(**{**given, "max_rate": None, "on_lag": "skip", **fields})


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (None, {}),
        ("735", {"a": ["735"], "b": ["735"]}),
        (iter(["1", "2"]), {"a": ["1", "2"], "b": ["1", "2"]}),
        ({"b": ("1", "2")}, {"b": ["1", "2"]}),
        ({"a": "735*"}, {"a": ["735*"]}),
    ],
)
def test_keys_are_for_every_stream_or_by_stream(
    keys: Keys | None, expected: dict[str, list[str]]
) -> None:
    assert by_stream(keys, ["a", "b"]) == expected


@pytest.mark.parametrize(
    ("fields", "positions", "expected"),
    [
        ({}, {}, {}),
        ({"last": 0}, {}, {"last": 0}),
        ({"since": "t"}, {}, {"since": "t"}),
        ({"since": "t"}, {"energy": "aa-1"}, {"resume": {"energy": "aa-1"}}),
        ({"keys": {"energy": ["1"]}}, {}, {"keys": {"energy": ["1"]}}),
        (
            {"keys": {"energy": ["1"]}, "snapshot": True, "max_rate": 0.5},
            {"energy": "aa-1"},
            {
                "keys": {"energy": ["1"]},
                "snapshot": True,
                "max_rate": 0.5,
                "resume": {"energy": "aa-1"},
            },
        ),
    ],
)
def test_message_has_what_is_asked_for(
    fields: dict[str, Any], positions: dict[str, str], expected: dict[str, Any]
) -> None:
    message = request(**fields).message(positions)

    assert message == {
        "type": "subscribe",
        "streams": ("energy",),
        "on_lag": "skip",
        **expected,
    }


@pytest.mark.parametrize(
    ("confirmed", "expected"),
    [({}, ["a"]), ({"keys": None}, ["a"]), ({"keys": {"b": 1}}, ["a"]), ({"keys": {"a": 1}}, [])],
)
def test_streams_whose_keys_are_not_confirmed(
    confirmed: dict[str, Any], expected: list[str]
) -> None:
    asked = request(streams=("a", "b"), keys={"a": ["1"]})

    assert asked.unconfirmed({"streams": ["a", "b"], **confirmed}) == expected
    assert asked.unconfirmed({"streams": ["b"]}) == []
    assert request(keys={"a": ["*"]}).unconfirmed({"streams": ["a", "b"]}) == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [({}, False), ({"keys": {"energy": ["1"]}}, True), ({"snapshot": True}, True)],
)
def test_removals_are_for_applications_that_know_of_keys(
    fields: dict[str, Any], told: bool
) -> None:
    assert request(**fields).tells_removals is told
