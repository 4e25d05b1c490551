"""Which way a worker sends, and what it says about it."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from energyws.process.board import Board, Field, Row
from energyws.process.io_uring import IoUring
from energyws.settings import Server, Tls
from tests.workers.websocket.io_uring.simulated import SimulatedKernel, Sockets
from workers.websocket.io_uring.choice import Choice
from workers.websocket.io_uring.kernel import Unsupported
from workers.websocket.io_uring.send_queue import SendQueue

ROOT = Path(__file__).parents[4]
PLAIN = Server()
SECURE = replace(PLAIN, tls=Tls(cert="cert.pem", key="key.pem"))
YES = "live frames go out by io_uring"
NO = "live frames go out one send for each client"
# A process of its own, as a seccomp filter stays until its process ends.
UNDER_SECCOMP = """
from energyws.process.board import Board, Field
from energyws.process.io_uring import IoUring
from energyws.settings import Server
from tests.without_io_uring import forbid
from workers.websocket.io_uring.choice import Choice
forbid()
row = Board.create().row(0)
print(Choice(Server(), row).queue, IoUring(row[Field.IO_URING]).label)
"""


@pytest.fixture
def row() -> Row:
    return Board.create().row(0)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[Any, ...]]]:
    """Takes the lines that have been logged: their event, io_uring and reason."""
    caplog.set_level(logging.INFO, "energyws.worker")

    def take() -> list[tuple[Any, ...]]:
        lines = [
            (record.getMessage(), *vars(record)["energyws_fields"].values())
            for record in caplog.records
        ]
        caplog.clear()
        return lines

    return take


def queue() -> SendQueue:
    return SimulatedKernel(Sockets().send).queue()


def failing(error: OSError) -> Callable[[], SendQueue]:
    def open_queue() -> SendQueue:
        raise error

    return open_queue


def test_queue_that_works_is_used(row: Row, said: Any) -> None:
    choice = Choice(PLAIN, row, queue)
    assert choice.queue is not None
    assert row[Field.IO_URING] == IoUring.IN_USE
    assert said() == [(YES,)]
    choice.tick()
    assert said() == []


def test_operator_can_turn_it_off(row: Row, said: Any) -> None:
    choice = Choice(replace(PLAIN, io_uring="off"), row, failing(OSError("never asked")))
    assert choice.queue is None
    assert row[Field.IO_URING] == IoUring.OFF
    assert said() == [(NO, "off", IoUring.OFF.text)]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (OSError(errno.EPERM, "forbidden"), IoUring.FORBIDDEN),
        (OSError(errno.EACCES, "forbidden"), IoUring.FORBIDDEN),
        (OSError(errno.ENOSYS, "no such call"), IoUring.UNSUPPORTED),
        (OSError(errno.EINVAL, "too old"), IoUring.UNSUPPORTED),
        (Unsupported("too old"), IoUring.UNSUPPORTED),
        (OSError(errno.ENOMEM, "no memory"), IoUring.FAILED),
        (OSError(errno.EMFILE, "no descriptor"), IoUring.FAILED),
        (OSError("no number"), IoUring.FAILED),
    ],
)
def test_without_a_queue_the_worker_says_why(
    row: Row, said: Any, error: OSError, state: IoUring
) -> None:
    choice = Choice(PLAIN, row, failing(error))
    assert choice.queue is None
    assert row[Field.IO_URING] == state
    assert said() == [(NO, state.label, error)]


def test_reload_that_turns_tls_on_or_off_is_said_once(row: Row, said: Any) -> None:
    choice = Choice(PLAIN, row, queue)
    said()
    choice.use_settings(PLAIN)
    assert said() == []
    choice.use_settings(SECURE)
    assert row[Field.IO_URING] == IoUring.TLS
    assert said() == [(NO, "tls", IoUring.TLS.text)]
    choice.use_settings(replace(SECURE, backlog=1))
    assert said() == []
    choice.use_settings(PLAIN)
    assert row[Field.IO_URING] == IoUring.IN_USE
    assert said() == [(YES,)]


def test_worker_that_begins_with_tls_has_a_queue_for_later(row: Row, said: Any) -> None:
    choice = Choice(SECURE, row, queue)
    assert choice.queue is not None
    assert said() == [(NO, "tls", IoUring.TLS.text)]
    choice.use_settings(PLAIN)
    assert said() == [(YES,)]


def test_failure_later_is_said_once_and_stays(row: Row, said: Any) -> None:
    choice = Choice(PLAIN, row, queue)
    said()
    assert choice.queue is not None
    failure = choice.queue.failure = OSError(errno.EPERM, "forbidden from now on")
    choice.tick()
    assert choice.queue is None
    assert row[Field.IO_URING] == IoUring.FAILED
    assert said() == [(NO, "failed", failure)]
    choice.tick()
    assert said() == []
    choice.use_settings(SECURE)
    assert row[Field.IO_URING] == IoUring.FAILED


def test_seccomp_filter_forbids_it() -> None:
    run = subprocess.run(
        [sys.executable, "-c", UNDER_SECCOMP], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (run.stdout, run.stderr) == ("None forbidden\n", "")
