from __future__ import annotations

import logging

from energyws.logs.recent import Recent
from tests.logs.captured import log


def test_only_the_newest_events_are_kept() -> None:
    recent = Recent("supervisor", 2)
    logger = logging.getLogger("energyws.test")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        with recent.kept():
            for number in range(3):
                log.info("child started", child=f"worker-{number}\n", pid=number)
        log.info("not kept")
    finally:
        logger.setLevel(before)
    events = recent.events()
    assert [event.pop("time") for event in events] == sorted(
        event["time"] for event in recent.events()
    )
    assert events == [
        {
            "level": "INFO",
            "process": "supervisor",
            "logger": "test",
            "event": "child started",
            "child": f"worker-{number}\n",
            "pid": number,
        }
        for number in (1, 2)
    ]
