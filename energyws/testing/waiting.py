"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

PATIENCE_SECONDS: Final = 30.0


def eventually(
    condition: Callable[[], Any],
    what: str,
    seconds: float = PATIENCE_SECONDS,
    *,
    interval: float = 0.02,
) -> Any:
    """The first true value of `condition`; raises AssertionError, naming `what`, without one."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(interval)


async def until(
    condition: Callable[[], Any], what: str = "condition", seconds: float = PATIENCE_SECONDS
) -> None:
    """As `eventually`, while the event loop runs on."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        await asyncio.sleep(0.001)
