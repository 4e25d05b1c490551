"""Terminals with a program of this project in them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Final

from energyws.testing import eventually

ROOT: Final = Path(__file__).parent.parent
HOME: Final = "\x1b[H"
LEAVE: Final = "\x1b[?1049l"
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\].*?(?:\x07|\x1b\\)")
# The first two would win over the terminal's size; with CI no program draws a screen.
_NOT_INHERITED: Final = ("COLUMNS", "LINES", "CI")


class Terminal:
    """A terminal with a verb of `energyws` in it, and somebody at it.

    The process leads a session whose terminal this is, as a shell's would.
    """

    def __init__(
        self, arguments: list[str], width: int = 80, height: int = 24, **environment: str
    ) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(width, height)
        self.before = termios.tcgetattr(self._slave)
        self._output = ""
        # COLUMNS and LINES would win over the terminal's size.
        inherited = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "energyws.cli", *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={
                **inherited,
                "PYTHONPATH": str(ROOT),
                "TERM": "xterm-256color",
                **environment,
            },
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self._output += data.decode(errors="replace")
        except OSError:
            # Closed.
            pass

    def resize(self, width: int, height: int) -> None:
        size = struct.pack("HHHH", height, width, 0, 0)
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, size)

    def lines(self) -> list[str]:
        """The newest screen that is complete, or is all there is."""
        parts = self._output.split(HOME)
        text = parts[-2] if len(parts) > 2 else parts[-1]
        return [line.rstrip() for line in _ESCAPES.sub("", text).split("\r\n")]

    def shows(self, text: str) -> list[str]:
        """Wait until the screen has the text; its lines."""
        lines: list[str] = eventually(
            lambda: (seen := self.lines()) and any(text in line for line in seen) and seen,
            f"{text!r} on the screen",
        )
        return lines

    def hides(self, text: str) -> None:
        """Wait until the screen does not have the text."""
        eventually(
            lambda: (seen := self.lines()) and not any(text in line for line in seen),
            f"{text!r} is off the screen",
        )

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    @property
    def output(self) -> str:
        return self._output

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was before."""
        return termios.tcgetattr(self._slave) == self.before

    def vanish(self) -> None:
        """Close the terminal, as a broken SSH connection does."""
        os.close(self._slave)
        os.close(self._master)
        self._slave = self._master = -1

    def ended(self) -> int:
        """The exit code; the screen is restored."""
        code = self.process.wait(30)
        assert self.restored
        eventually(lambda: LEAVE in self._output, "the screen is restored")
        assert "\x1b[?25h" in self._output.rsplit(HOME, 1)[-1]
        assert "Traceback" not in self._output
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for descriptor in (self._slave, self._master):
            if descriptor >= 0:
                os.close(descriptor)
