"""A helper process that reads commands and writes answers, one per line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import orjson

_PATIENCE_SECONDS: Final = 120.0


class LineProcess:
    """Runs until its stdin is closed. token: passed in WS_TOKEN, where `ps` does not show it."""

    def __init__(
        self, command: Sequence[str | Path], *, token: str = "", new_session: bool = False
    ) -> None:
        self._name = Path(command[0]).name if command[0] != sys.executable else str(command[2])
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "WS_TOKEN": token},
            start_new_session=new_session,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def send(self, text: str) -> None:
        """Send one or more lines."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Its next line as JSON; AssertionError if the process has ended."""
        return orjson.loads(self.line())

    def line(self) -> bytes:
        """Its next line; AssertionError if the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self._name} has ended: see above"
        return line

    def ask(self, text: str) -> Any:
        """Send a line; the answer as JSON."""
        self.send(f"{text}\n")
        return self.answer()

    def close(self, seconds: float = _PATIENCE_SECONDS) -> None:
        """Close its stdin and wait until it ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            print(f"{self._name} did not end when its stdin was closed", file=sys.stderr)
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
