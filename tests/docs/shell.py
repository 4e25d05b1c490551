"""Runs what a page shows: a block of shell commands, or a program that runs on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from energyws.testing import PATIENCE_SECONDS, eventually
from tests.docs.pages import ROOT

_OURS: Final = ("JWT_SECRET", "ADMIN_TOKEN", "CONFIG_PATH", "WS_TOKEN")


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """A text with these parts replaced; it must contain each of them."""
    for old, new in changes.items():
        assert old in text, f"the page has no {old!r} any more"
        text = text.replace(old, new)
    return text


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without a configuration, with `energyws` in the PATH."""
    inherited = {key: value for key, value in os.environ.items() if key not in _OURS}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Stands for `pip install energyws-client`, which has a test of its own.
    client = str(ROOT / "client")
    return {**inherited, "PATH": path, "PYTHONPATH": client, **extra}


def bash(text: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a block to its end, as a shell that stops at the first failure."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=cwd,
        env=environment(extra),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Running:
    """A block that runs until it is stopped. output: the lines that it has written."""

    def __init__(self, text: str, cwd: Path, **extra: str) -> None:
        self.output: list[str] = []
        self._process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=cwd,
            env=environment(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def lines(self, text: str, count: int = 1) -> list[str]:
        """The lines with this text, once there are `count`."""

        def found() -> list[str] | None:
            lines = [line for line in list(self.output) if text in line]
            if len(lines) < count:
                assert self._process.poll() is None, "\n".join(self.output)
                return None
            return lines

        lines: list[str] = eventually(found, f"{count} lines with {text!r}: {self.output[-5:]}")
        return lines

    def stop(self) -> None:
        """End the whole group of processes, as a Ctrl-C at a terminal does; kill what stays."""
        self._signal(15)
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(9)
            self._process.wait()
        self._thread.join()

    def _signal(self, number: int) -> None:
        # All of it may have ended.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self.output.append(line.rstrip("\n"))
