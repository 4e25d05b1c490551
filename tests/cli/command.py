"""The `energyws` command, as a shell runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from energyws.testing import eventually

ROOT: Final = Path(__file__).parents[2]
# The variables of the example file, and the one that names the file.
_CONFIGURATION: Final = ("JWT_SECRET", "ADMIN_TOKEN", "CONFIG_PATH")


def energyws(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one verb to its end, without the caller's configuration."""
    inherited = {key: value for key, value in os.environ.items() if key not in _CONFIGURATION}
    return subprocess.run(
        [sys.executable, "-m", "energyws.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


class Tail:
    """A running `energyws tail`, until the block ends."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "energyws.cli", "tail", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "WS_TOKEN": "", **environment},
        )
        self.readings: list[Any] = []
        self.messages: list[str] = []
        self._threads = [
            threading.Thread(target=self._read, args=each)
            for each in (
                (self._process.stdout, lambda line: self.readings.append(json.loads(line))),
                (self._process.stderr, self.messages.append),
            )
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()

    def says(self, text: str) -> None:
        """Wait until it has printed exactly this line."""
        line = f"energyws: {text}"
        eventually(lambda: line in self.messages, f"{line!r}, not {self.messages}")

    def interrupt(self) -> int:
        """Ctrl-C, and the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(20)

    @staticmethod
    def _read(stream: Any, take: Callable[[str], object]) -> None:
        with stream:
            for line in stream:
                take(line.rstrip("\n"))
