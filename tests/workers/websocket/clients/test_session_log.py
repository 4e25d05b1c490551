"""The log lines about one client: their fields, and which are rate-limited."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog, flush_suppressed
from energyws.protocol.messages import Subscribed, Unrecovered
from tests.principals import principal
from workers.websocket.clients import session_log


class Client:
    id = 12
    principal = principal()


Lines = Callable[[], list[tuple[str, str, dict[str, Any]]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """The lines so far: level, event and fields."""
    caplog.set_level(logging.INFO, "energyws.session")
    # Other tests may have used up the rate limit.
    monkeypatch.setattr(session_log, "_limited", RateLimitedLog(Log("session"), 3600.0))
    yield lambda: [
        (record.levelname, record.getMessage(), vars(record)["energyws_fields"])
        for record in caplog.records
    ]
    flush_suppressed(at_once=True)


def test_connect_and_disconnect_of_each_client_are_logged(lines: Lines) -> None:
    for _ in range(2):
        session_log.connected(Client(), "192.0.2.1")
        session_log.disconnected(Client(), 1001, "client")
    connected = {"client": 12, "peer": "192.0.2.1", "subject": "tester"}
    disconnected = {"client": 12, "subject": "tester", "code": 1001, "by": "client"}
    assert lines() == 2 * [
        ("INFO", "WebSocket client connected", connected),
        ("INFO", "WebSocket client disconnected", disconnected),
    ]


def test_slow_clients_are_logged_at_a_limited_rate(lines: Lines) -> None:
    for _ in range(2):
        session_log.lagging(Client(), "energy")
        session_log.skipped(Client(), "energy", 5, by_choice=True)
        session_log.skipped(Client(), "energy", 7, by_choice=False)
    about = {"client": 12, "subject": "tester", "stream": "energy"}
    assert lines() == [
        ("INFO", "client lags", about),
        ("INFO", "client skips frames", {**about, "frames": 5}),
        # A line about chosen skips does not hold this one back.
        ("WARNING", "client skips frames", {**about, "frames": 7}),
    ]


def test_each_reason_for_a_gap_after_a_resume_has_its_own_warning(lines: Lines) -> None:
    session_log.resumed(Client(), "energy", Subscribed("abcd0123-9", True, 5))
    for reason in (Unrecovered.RETENTION, Unrecovered.EPOCH_CHANGED, Unrecovered.RETENTION):
        session_log.resumed(Client(), "energy", Subscribed("abcd0123-9", False, 4, reason))
    about = {"client": 12, "subject": "tester", "stream": "energy"}
    assert lines() == [
        ("INFO", "client resumes", {**about, "replayed": 5}),
        *(
            ("WARNING", "client cannot resume without a gap", {**about, **fields})
            for fields in (
                {"replayed": 4, "reason": "RETENTION"},
                {"replayed": 4, "reason": "EPOCH_CHANGED"},
            )
        ),
    ]


@pytest.mark.parametrize("write", [session_log.not_set_up, session_log.not_handled])
def test_internal_error_is_logged_without_the_text_of_the_exception(
    lines: Lines, write: Callable[[Client], None]
) -> None:
    try:
        raise ValueError("this may be a token")
    except ValueError:
        write(Client())
    ((level, _, fields),) = lines()
    assert level == "ERROR"
    assert fields["client"] == 12
    assert fields["traceback"].endswith("ValueError")
