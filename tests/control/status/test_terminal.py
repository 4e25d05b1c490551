"""A terminal that delivers keys immediately, and the wait for keys, signals and threads."""

from __future__ import annotations

import os
import pty
import signal
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from energyws.control.status.terminal import Waker, cbreak

LONG_SECONDS = 30.0


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal: the operator's end, and the program's end."""
    keyboard, program = pty.openpty()
    yield keyboard, program
    for descriptor in (keyboard, program):
        # A test may have closed it.
        with suppress(OSError):
            os.close(descriptor)


def flags(descriptor: int) -> int:
    local: int = termios.tcgetattr(descriptor)[3]
    return local & (termios.ECHO | termios.ICANON)


def test_keys_come_immediately_until_the_block_ends(terminal: tuple[int, int]) -> None:
    _, program = terminal
    before = termios.tcgetattr(program)
    with pytest.raises(RuntimeError), cbreak(program):
        assert flags(program) == 0
        raise RuntimeError
    assert termios.tcgetattr(program) == before


def test_keys_end_a_wait(terminal: tuple[int, int]) -> None:
    keyboard, program = terminal
    with cbreak(program), Waker(program, ()) as waker:
        os.write(keyboard, b"+q")
        assert waker.wait(LONG_SECONDS) == ("+q", [])
        assert waker.wait(0) == ("", [])


def test_signals_end_a_wait_and_raise_nothing(terminal: tuple[int, int]) -> None:
    _, program = terminal
    before = signal.getsignal(signal.SIGTERM)
    with Waker(program, (signal.SIGTERM, signal.SIGWINCH)) as waker:
        os.kill(os.getpid(), signal.SIGWINCH)
        os.kill(os.getpid(), signal.SIGTERM)
        keys, signals = waker.wait(LONG_SECONDS)
        assert (keys, set(signals)) == ("", {signal.SIGWINCH, signal.SIGTERM})
        assert waker.wait(0) == ("", [])
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_ends_a_wait(terminal: tuple[int, int]) -> None:
    _, program = terminal
    started = time.monotonic()
    with Waker(program, ()) as waker:
        thread = threading.Thread(target=waker.wake)
        thread.start()
        assert waker.wait(LONG_SECONDS) == ("", [])
        thread.join()
    assert time.monotonic() - started < LONG_SECONDS
    # A thread that comes late does nothing.
    waker.wake()


def test_loss_of_the_terminal_counts_as_hangup(terminal: tuple[int, int]) -> None:
    keyboard, program = terminal
    with Waker(program, ()) as waker:
        os.close(keyboard)
        assert waker.wait(LONG_SECONDS) == ("", [signal.SIGHUP])
