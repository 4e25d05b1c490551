"""A thread writes the lines: no caller waits for it, and dropped lines are counted."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from contextlib import redirect_stderr
from typing import Literal

import pytest

from energyws.logs.writer import adjust, configure
from energyws.settings import Logging
from tests.logs.captured import Written, log, logging_as, only_line


@pytest.mark.parametrize("kind", ["text", "json"])
def test_adjust_changes_level_and_format(kind: Literal["text", "json"]) -> None:
    other: Literal["text", "json"] = "json" if kind == "text" else "text"
    with logging_as(kind) as output:
        log.debug("hidden")
        adjust(Logging(level="DEBUG", format=other), "worker-0")
        log.debug("shown")

    line = only_line(output)
    assert line.startswith("{") == (other == "json")
    assert "shown" in line


@pytest.mark.parametrize("library", ["aiofastnet", "asyncio"])
def test_only_errors_of_libraries_are_written(library: str) -> None:
    with logging_as("text", "DEBUG") as output:
        logging.getLogger(library).warning("slow")
        logging.getLogger(library).error("failed")

    line = only_line(output)
    assert line.endswith(f" ERROR worker-0 library reports library={library} says=failed")


def test_library_that_quotes_client_data_is_not_written() -> None:
    with logging_as("text", "DEBUG") as output:
        logging.getLogger("picows.server").error("GET /ws/energy?token=canary")

    assert output.getvalue() == ""


def test_full_pipe_blocks_no_caller() -> None:
    reading, writing = os.pipe()
    received: list[str] = []
    with os.fdopen(reading) as pipe, open(writing, "w") as blocked, redirect_stderr(blocked):
        before = logging.getLogger().handlers[:]
        configure(Logging(), "worker-0")
        (handler,) = logging.getLogger().handlers
        try:
            # Far more than the pipe and the queue hold: a blocking log would never return.
            for number in range(3000):
                log.info("event", number=number, **{f"filling{i}": "x" * 400 for i in range(10)})
            while not received or "count=" not in received[-1]:
                received.append(pipe.readline())
        finally:
            logging.getLogger().handlers[:] = before
            handler.close()
    kept = [line for line in received if "number=" in line]
    dropped = int(received[-1].rpartition("count=")[2])
    assert dropped > 0
    assert len(kept) + dropped == 3000


def test_burst_of_ten_thousand_lines_is_written_in_full() -> None:
    reading, writing = os.pipe()
    received: list[str] = []
    with os.fdopen(reading) as pipe, open(writing, "w") as read, redirect_stderr(read):
        reader = threading.Thread(target=lambda: received.extend(pipe))
        reader.start()
        before = logging.getLogger().handlers[:]
        configure(Logging(), "worker-0")
        (handler,) = logging.getLogger().handlers
        try:
            for number in range(10_000):
                log.info("WebSocket client disconnected", client=number, subject="me")
            deadline = time.monotonic() + 20
            while len(received) < 10_000 and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            logging.getLogger().handlers[:] = before
            handler.flush()
            handler.close()
            read.close()
            reader.join()
    assert len(received) == 10_000
    assert all(" WebSocket client disconnected " in line for line in received)


class Full(Written):
    """A stream that fails its first writes, as on a full disk."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.refusals = 3
        self._error = error

    def write(self, text: str) -> int:
        if self.refusals:
            self.refusals -= 1
            raise self._error
        return super().write(text)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), RuntimeError("unexpected")],
    ids=["full disk", "no memory", "other error"],
)
def test_writing_resumes_after_a_failure(error: Exception) -> None:
    before = logging.getLogger().handlers[:]
    with redirect_stderr(Full(error)) as output:
        configure(Logging(), "worker-0")
        (handler,) = logging.getLogger().handlers
        try:
            for number in range(5):
                log.info("event", number=number)
                # Without this, two lines could share one failing write.
                handler.flush()
            lines = output.getvalue().splitlines()
        finally:
            logging.getLogger().handlers[:] = before
            handler.close()
    assert [line.rpartition(" ")[2] for line in lines] == ["number=3", "number=4"]
