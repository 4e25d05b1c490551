"""The newest events of a process, kept in memory for /status."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from typing import Any

import orjson

from energyws.logs.formats import JsonFormatter


class Recent(logging.Handler):
    """Keeps the newest `count` events of this process, in the JSON form."""

    def __init__(self, process: str, count: int) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter(process))
        self._lines: deque[str] = deque(maxlen=count)

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises."""
        try:
            self._lines.append(self.format(record))
        except Exception:
            self.handleError(record)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the events that are logged inside the `with` block."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)

    def events(self) -> list[dict[str, Any]]:
        """Oldest first; safe to call from any thread."""
        # A copy, because other threads may log meanwhile.
        return [orjson.loads(line) for line in self._lines.copy()]
