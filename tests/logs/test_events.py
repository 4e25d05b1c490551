from __future__ import annotations

import json
from typing import Literal

import pytest

from tests.logs.captured import log, logging_as, only_line


def test_notice_is_written_at_every_level() -> None:
    with logging_as("json", "ERROR") as output:
        log.info("hidden")
        log.notice("log level changed", now="ERROR")

    decoded = json.loads(only_line(output))
    assert (decoded["level"], decoded["event"]) == ("INFO", "log level changed")


def test_percent_signs_are_not_placeholders() -> None:
    with logging_as("text") as output:
        log.info("100%s done %(x)d", rate="5%d")

    assert only_line(output).endswith("100%s done %(x)d rate=5%d")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("DEBUG", ["DEBUG", "INFO", "WARNING", "ERROR"]),
        ("INFO", ["INFO", "WARNING", "ERROR"]),
        ("WARNING", ["WARNING", "ERROR"]),
        ("ERROR", ["ERROR"]),
    ],
)
def test_events_below_the_level_are_not_written(
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"], shown: list[str]
) -> None:
    with logging_as("json", level) as output:
        log.debug("one")
        log.info("two")
        log.warning("three")
        log.error("four")

    assert [json.loads(line)["level"] for line in output.getvalue().splitlines()] == shown
