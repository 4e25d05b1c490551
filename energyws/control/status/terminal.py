"""The terminal of `energyws top`: keys arrive at once and without an echo."""

from __future__ import annotations

import os
import select
import signal
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final

_READ_BYTES: Final = 64


@contextmanager
def cbreak(descriptor: int) -> Iterator[None]:
    """Deliver each key as it is pressed, without an echo, until the block ends."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        # The terminal may be gone. Flush: keys that were not read are no input for the shell.
        with suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


class Waker:
    """Waits for keys, signals and other threads, all at once. Signals are noted, never raised."""

    def __init__(self, descriptor: int, signals: tuple[signal.Signals, ...]) -> None:
        self._keys = descriptor
        self._signals = signals
        self._received: list[signal.Signals] = []
        # A thread may return from a long request after __exit__.
        self._lock = threading.Lock()
        self._open = False

    def __enter__(self) -> Waker:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._open = True
        # Without it a signal just before select() would wait for the timeout.
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._handlers_before: dict[signal.Signals, Any] = {
            number: signal.signal(number, self._note) for number in self._signals
        }
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        with self._lock:
            self._open = False
            os.close(self._read)
            os.close(self._write)

    def wake(self) -> None:
        """End a wait; callable from any thread."""
        # A full pipe ends the wait as well.
        with self._lock, suppress(BlockingIOError):
            if self._open:
                os.write(self._write, b"\0")

    def wait(self, seconds: float) -> tuple[str, list[signal.Signals]]:
        """The keys and signals that arrived, after `seconds` at most.

        The loss of the terminal counts as SIGHUP.
        """
        readable, _, _ = select.select([self._keys, self._read], [], [], seconds)
        keys = ""
        if self._read in readable:
            os.read(self._read, 4096)
        if self._keys in readable:
            try:
                data = os.read(self._keys, _READ_BYTES)
            except OSError:
                data = b""
            keys = data.decode("ascii", "replace")
            if not data:
                self._received.append(signal.SIGHUP)
        noted, self._received = self._received, []
        return keys, noted

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received.append(signal.Signals(number))
