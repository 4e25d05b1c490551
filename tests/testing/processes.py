"""Waiting for a process to end."""

from __future__ import annotations

import time

import psutil

from tests.testing.readers import DEADLINE


def wait_until_ended(pid: int) -> None:
    """Wait for a process of another parent; a zombie counts as ended."""
    deadline = time.monotonic() + DEADLINE
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() >= deadline:
                process.kill()
                raise AssertionError(f"process {pid} is still running after {DEADLINE} s")
            time.sleep(0.005)
    except psutil.NoSuchProcess:
        pass
