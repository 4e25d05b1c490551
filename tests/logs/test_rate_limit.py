"""Events are written at a limited rate, and all of them are counted."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog, flush_suppressed

log = Log("flood")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Recorder(logging.Handler):
    """Records level, event and fields of each line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = record.energyws_fields  # type: ignore[attr-defined]
        self.lines.append((record.levelname, record.getMessage(), fields))

    def take(self) -> list[tuple[str, str, dict[str, Any]]]:
        """The lines since the last call."""
        lines, self.lines = self.lines, []
        return lines


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    handler = Recorder()
    logger = logging.getLogger("energyws.flood")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    flush_suppressed(at_once=True)


def test_single_held_back_event_is_written_without_a_count(recorder: Recorder) -> None:
    limited = RateLimitedLog(log, 10.0, clock := Clock())
    limited.warning("refused", number=0)
    limited.warning("refused", number=1)
    clock.now += 10.0
    flush_suppressed()
    assert recorder.take() == [
        ("WARNING", "refused", {"number": 0}),
        ("WARNING", "refused", {"number": 1}),
    ]


def test_first_event_is_written_and_the_others_are_counted(recorder: Recorder) -> None:
    clock = Clock()
    limited = RateLimitedLog(log, 10.0, clock)
    for at in (100.0, 100.0, 105.0, 109.9, 110.0, 110.1, 120.0, 500.0):
        clock.now = at
        limited.warning("refused", at=at)

    assert recorder.take() == [
        ("WARNING", "refused", {"at": at} | ({"held_back": held} if held else {}))
        for at, held in ((100.0, 0), (110.0, 3), (120.0, 1), (500.0, 0))
    ]


def test_newest_event_is_written_when_the_flood_is_over(recorder: Recorder) -> None:
    clock = Clock()
    limited = RateLimitedLog(log, 10.0, clock)
    for number in range(5):
        limited.warning("refused", number=number)
    recorder.take()

    clock.now = 109.9
    flush_suppressed()
    assert recorder.take() == []
    clock.now = 110.0
    flush_suppressed()
    assert recorder.take() == [("WARNING", "refused", {"number": 4, "held_back": 3})]
    clock.now = 1000.0
    flush_suppressed()
    assert recorder.take() == []


def test_flushed_line_delays_the_next_one(recorder: Recorder) -> None:
    clock = Clock()
    limited = RateLimitedLog(log, 10.0, clock)
    for _ in range(2):
        limited.warning("refused")
    clock.now = 115.0
    flush_suppressed()
    recorder.take()

    clock.now = 116.0
    limited.warning("refused")
    assert recorder.take() == []


def test_kinds_are_limited_separately(recorder: Recorder) -> None:
    limited = RateLimitedLog(log, 10.0, Clock())
    for _ in range(3):
        limited.warning("refused", kind="signature", reason="signature")
        limited.warning("refused", kind="full", reason="full")
        limited.info("lags")

    assert [(event, fields.get("reason")) for _, event, fields in recorder.take()] == [
        ("refused", "signature"),
        ("refused", "full"),
        ("lags", None),
    ]


def test_kind_is_not_a_field(recorder: Recorder) -> None:
    RateLimitedLog(log, 10.0, Clock()).warning("refused", kind="full")

    assert recorder.take() == [("WARNING", "refused", {})]


def test_event_below_the_level_is_not_written_by_a_flush(recorder: Recorder) -> None:
    clock = Clock()
    limited = RateLimitedLog(log, 10.0, clock)
    for _ in range(3):
        limited.debug("refused")
    clock.now = 200.0
    flush_suppressed()
    assert recorder.take() == []


def test_fault_has_a_traceback_without_client_data(recorder: Recorder) -> None:
    limited = RateLimitedLog(log, 10.0, Clock())
    for _ in range(2):
        try:
            int("a-token-of-a-client")
        except ValueError:
            limited.fault("request could not be handled", peer="127.0.0.1")

    ((level, _, fields),) = recorder.take()
    assert level == "ERROR"
    assert fields["traceback"].startswith("Traceback (most recent call last):\n")
    assert fields["traceback"].endswith("\nValueError")
    assert "test_fault_has_a_traceback" in fields["traceback"]
    limited.flush(at_once=True)
    assert recorder.take() == [("ERROR", "request could not be handled", {"peer": "127.0.0.1"})]


@given(st.lists(st.tuples(st.floats(0, 15), st.booleans()), max_size=40))
def test_every_event_is_counted_at_a_bounded_rate(steps: list[tuple[float, bool]]) -> None:
    clock = Clock()
    limited = RateLimitedLog(log, 10.0, clock)
    handler = Recorder()
    logger = logging.getLogger("energyws.flood")
    logger.addHandler(handler)
    count, written = 0, []
    try:
        for pause, is_event in [*steps, (10.0, False)]:
            clock.now += pause
            if is_event:
                count += 1
                limited.error("refused")
            else:
                limited.flush()
            written += [clock.now] * (len(handler.lines) - len(written))
    finally:
        logger.removeHandler(handler)

    assert sum(fields.get("held_back", 0) + 1 for _, _, fields in handler.lines) == count
    assert all(later >= earlier + 10.0 for earlier, later in pairwise(written))


def test_no_event_is_lost_between_threads(recorder: Recorder) -> None:
    limited = RateLimitedLog(log, 0.001)
    each_thread = 2_000

    def flood() -> None:
        for _ in range(each_thread):
            limited.warning("refused")
            flush_suppressed()

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flush_suppressed(at_once=True)
    assert (
        sum(fields.get("held_back", 0) + 1 for _, _, fields in recorder.take()) == 4 * each_thread
    )


def test_suppressed_events_are_written_when_the_process_ends() -> None:
    script = (
        "from energyws import settings\n"
        "from energyws.logs import events, rate_limit, writer\n"
        "writer.configure(settings.Logging(), 'worker-0')\n"
        "limited = rate_limit.RateLimitedLog(events.Log('x'), 3600.0)\n"
        "for number in range(7): limited.warning('refused', number=number)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    first, last = ended.stderr.splitlines()
    assert first.endswith(" refused number=0")
    assert last.endswith(" refused number=6 held_back=5")
