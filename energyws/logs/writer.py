"""Where log lines go: to standard error, by a thread of their own."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections import deque
from typing import Final, TextIO

from energyws.logs.events import Log
from energyws.logs.formats import formatter
from energyws.settings import Logging

# Characters that may be queued while the pipe is not read. When thousands of clients disconnect at
# once, as many lines come before the thread runs: they all fit.
_MAX_QUEUED: Final = 4 * 1024 * 1024
# How long the end of the process waits for queued lines.
_FLUSH_SECONDS: Final = 1.0
# Lines within this time share a write and one switch of threads: one switch per line would cost a
# busy event loop more than everything else about logging.
_GATHER_SECONDS: Final = 0.02


def configure(settings: Logging, process: str) -> None:
    """Send everything that this process logs to standard error, under the process's name."""
    handler = _ThreadedHandler(sys.stderr)
    handler.setFormatter(formatter(settings, process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    # No line shows these, and logging would find them out for each record (see "Optimization" in
    # its documentation).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # picows reports each failed connection with what the client sent; our own events report them
    # without, at a limited rate. Errors of aiofastnet and asyncio are about this process.
    logging.getLogger("picows").setLevel(logging.CRITICAL)
    for name in ("aiofastnet", "asyncio"):
        logging.getLogger(name).setLevel(logging.ERROR)


def adjust(settings: Logging, process: str) -> None:
    """Change the level and the form after `configure`."""
    root = logging.getLogger()
    root.setLevel(settings.level)
    for handler in root.handlers:
        if isinstance(handler, _ThreadedHandler):
            handler.setFormatter(formatter(settings, process))


class _ThreadedHandler(logging.Handler):
    """Writes from a thread, so a pipe that is not read blocks nothing else; excess is dropped.

    A thread instead of O_NONBLOCK, which would apply to every process that shares the pipe or
    terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: deque[str] = deque()
        # Characters since the start. The handler's lock guards the first; only the thread changes
        # the second.
        self._queued = self._written = 0
        self._dropped = 0
        # Set when there are lines to write or the handler is closed; when they must be written
        # without gathering more; when all of them are written.
        self._ready, self._urgent, self._done = (threading.Event() for _ in range(3))
        self._closed = False
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks and never raises."""
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if self._queued - self._written >= _MAX_QUEUED:
            self._dropped += 1
            return
        self._queued += len(line)
        self._lines.append(line)
        if not self._ready.is_set():
            self._ready.set()

    def flush(self) -> None:
        """Wait until the queued lines are written, for at most a second."""
        self._done.clear()
        self._urgent.set()
        self._ready.set()
        self._done.wait(_FLUSH_SECONDS)

    def close(self) -> None:
        """End the thread once it has written the queued lines; does not wait for it."""
        self._closed = True
        self._urgent.set()
        self._ready.set()
        super().close()

    def _write(self) -> None:
        while not self._closed or self._lines:
            self._ready.wait()
            self._urgent.wait(_GATHER_SECONDS)
            # Cleared before the lines are taken: a line or a flush from here on sets them again.
            self._urgent.clear()
            self._ready.clear()
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            # A full disk or any other failure must not end the thread: nothing would log again.
            with contextlib.suppress(Exception):
                self._stream.write("".join(f"{line}\n" for line in lines))
                self._stream.flush()
            self._written += sum(map(len, lines))
            if self._dropped and not self._lines:
                dropped, self._dropped = self._dropped, 0
                Log("log").warning("lines dropped: the log was not read", count=dropped)
            if not self._lines:
                self._done.set()
