"""Processes that should have ended."""

from __future__ import annotations

import time

import psutil

from tests.testing.readers import DEADLINE


def wait_until_ended(pid: int) -> None:
    """Wait for a process of another parent; one that is not reaped yet has ended."""
    deadline = time.monotonic() + DEADLINE
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() >= deadline:
                process.kill()
                raise AssertionError(f"process {pid} still ran after {DEADLINE} s")
            time.sleep(0.005)
    except psutil.NoSuchProcess:
        pass
