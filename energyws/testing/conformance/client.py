"""Judges a client: runs a command with the URL of a scripted server.

The command gets the URL as its last argument and its token in WS_TOKEN, or in WS_TOKEN_URL the URL
where it gets a fresh one by GET: 200 and the token, 503 while there is none, 403 when there will be
none. WS_KEYS has the keys that it asks for, separated by blanks, and WS_SNAPSHOT is 1 where it asks
for a snapshot. It prints one JSON object a line for each reading, with the record as `data`, and
ends with a status other than 0 when it gives up. `energyws tail` is such a command.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO, Any, Final

from energyws.testing.conformance.patterns import shown
from energyws.testing.conformance.stage import LAST, Stage
from energyws.testing.conformance.table import ClientCase, Result, result

END_SECONDS: Final = 5.0
_LAST_LINES: Final = 3
_VARIABLES: Final = ("WS_TOKEN", "WS_TOKEN_URL", "WS_KEYS", "WS_SNAPSHOT")


def judge(
    case: ClientCase,
    command: Sequence[str],
    *,
    has_function: bool,
    has_keys: bool,
    seconds: float,
) -> Result:
    """Run the command for one case.

    has_function: whether it can get tokens from WS_TOKEN_URL; has_keys: whether it reads WS_KEYS.
    """
    if case.has_function and not has_function:
        return Result(case, "skip", "needs a client that gets its tokens from WS_TOKEN_URL")
    if case.asks and not has_keys:
        return Result(case, "skip", "needs a client that asks for the keys in WS_KEYS")
    with Stage(case) as stage, tempfile.TemporaryFile("w+") as log:
        run = _Run(case, command, stage, log)
        fault = stage.faults[0] if run.wait(seconds) and stage.faults else run.fault(seconds)
        if fault is not None and (said := run.last_lines()):
            fault += f"; it said: {said}"
        return result(case, fault, stage.heard)


class _Run:
    """One run of the command; `wait` ends it."""

    def __init__(
        self, case: ClientCase, command: Sequence[str], stage: Stage, log: IO[str]
    ) -> None:
        self._case = case
        self._stage = stage
        self._log = log
        self._readings: list[Any] = []
        self._status: int | None = None
        environment = {k: v for k, v in os.environ.items() if k not in _VARIABLES}
        if keys := case.asks.get("keys"):
            environment["WS_KEYS"] = " ".join(keys)
        if case.asks.get("snapshot"):
            environment["WS_SNAPSHOT"] = "1"
        if isinstance(case.token, str):
            environment["WS_TOKEN"] = case.token
        else:
            environment["WS_TOKEN_URL"] = stage.token_url
        self._process = subprocess.Popen(
            [*command, stage.url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait(self, seconds: float) -> bool:
        """Wait until it has the last reading, gives up or makes a mistake; then end it. True."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._stage.faults and LAST not in self._readings:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._status = self._process.wait(0.02)
                break
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        return True

    def fault(self, seconds: float) -> str | None:
        """What the client did wrong, as far as its output and its end show."""
        expect, status = self._case.expect, self._status
        gives_up = "refused" in expect
        if self._readings != expect["readings"]:
            return f"wanted the readings {expect['readings']}, got {shown(self._readings)}"
        if gives_up and status is None:
            return f"did not give up within {seconds:g} s"
        if gives_up and status == 0:
            return "gave up with status 0"
        wanted = expect.get("tokens")
        if wanted is not None and self._stage.calls != wanted:
            return f"wanted {wanted} requests for a token, got {self._stage.calls}"
        return None

    def last_lines(self) -> str:
        """The end of what it has written to standard error."""
        self._log.seek(0)
        return " | ".join(self._log.read().splitlines()[-_LAST_LINES:])

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                try:
                    self._readings.append(json.loads(line)["data"]["n"])
                except (ValueError, KeyError, TypeError):
                    self._readings.append(line)
