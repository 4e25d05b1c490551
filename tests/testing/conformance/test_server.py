"""A server that does something wrong fails; tests/e2e/test_contract.py has the right one."""

from __future__ import annotations

from typing import Any

import pytest

from energyws.testing.conformance.server import judge
from energyws.testing.conformance.table import ServerCase
from tests.testing.conformance.servers import correct, server

PONG = {"type": "pong", "timestamp": "<time>"}
PING: dict[str, Any] = {"send": {"type": "ping"}}
SUBSCRIBE: dict[str, Any] = {"send": {"type": "subscribe", "streams": ["{stream}"]}}


def case(*steps: dict[str, Any], needs: tuple[str, ...] = ()) -> ServerCase:
    return ServerCase("X-1", "A server MUST x.", steps, needs)


def test_right_server_passes_and_is_quoted() -> None:
    subscribed = {"type": "subscribed", "positions": {"{stream}": {"position": "<string P>"}}}
    steps = ({"connect": {}}, SUBSCRIBE, {"expect": subscribed}, PING, {"until": PONG})
    with server(correct) as target:
        result = judge(case(*steps), target, {})
    assert (result.verdict, result.detail) == ("ok", "")
    assert [each["type"] for each in result.seen] == ["subscribed", "data", "data", "pong"]


@pytest.mark.parametrize(
    ("steps", "detail"),
    [
        (
            ({"connect": {}}, PING, {"expect": {"type": "pong", "timestamp": "<integer>"}}),
            "timestamp: wanted integer, got 2026-01-01T00:00:00.000Z",
        ),
        (({"connect": {}}, PING, {"until": {"type": "data"}}), "nothing within 0.5 s"),
        (({"connect": {}}, {"close": 1000}, {"closed": 1001}), "wanted 1001, got 1000"),
        (({"connect": {}}, {"close": 1000}, {"expect": PONG}), "closed with 1000"),
        (({"connect": {"answer": {"x": "1"}}},), "header x: wanted 1, got None"),
        (
            (
                {"connect": {"via": "none"}},
                {"refused": {"status": 401, "code": "UNAUTHORIZED", "close": 4401}},
            ),
            "nothing within 0.5 s",
        ),
        (
            ({"request": {"path": "/last/{stream}"}, "answer": {"status": 200}},),
            "wanted 200, got 404",
        ),
    ],
)
def test_wrong_server_fails_with_the_step_and_the_reason(
    steps: tuple[dict[str, Any], ...], detail: str
) -> None:
    with server(correct, seconds=0.5) as target:
        result = judge(case(*steps), target, {})
    assert result.verdict == "FAIL"
    assert result.detail.startswith(f"step {len(steps)}, ")
    assert result.detail.endswith(detail)


def test_refusal_has_the_status_of_the_case() -> None:
    steps = ({"connect": {}}, {"refused": {"status": 401, "code": "UNAUTHORIZED", "close": 4401}})
    with server(correct, status=403) as target:
        assert judge(case(*steps), target, {}).detail.endswith("wanted 401, got 403")
        detail = judge(case({"connect": {}}, PING), target, {}).detail
        assert detail.endswith("the handshake was answered with 403")


def test_what_the_server_does_not_have_is_skipped() -> None:
    with server(correct) as target:
        result = judge(case({"never": "played"}, needs=("sse",)), target, {"sse": "it has none"})
    assert (result.verdict, result.detail) == ("skip", "it has none")
