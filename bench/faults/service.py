"""The real service as the harness breaks it: started again and again on the same port."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import psutil

PATIENCE_SECONDS: Final = 60.0
# Below the ephemeral ports: a client that knocks at a closed port among those may be given that
# very port for its own end, connect to itself, and keep the service from coming back.
_PORTS: Final = range(15_000, 30_000)
# One line per client that comes and goes: the crowd's doing.
_CROWD: Final = "WebSocket client "
# The smallest pipe that Linux makes: one that is not read is full soon.
_PIPE_BYTES: Final = 4096


def free_port() -> int:
    """A port that is free now, and that the kernel gives to nobody unasked."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Service:
    """`energyws serve`; ends with the block, whatever state it is in.

    config: for the next start; sections may be changed in between.
    lines: the log since the first start; log_bytes: its size, without a line per client.
    """

    def __init__(
        self, directory: Path, config: dict[str, Any], environment: Mapping[str, str]
    ) -> None:
        self.config = config
        self.environment = dict(environment)
        self.directory = directory
        self.lines: list[str] = []
        self.log_bytes = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._reading = threading.Event()
        self._reading.set()
        self._tracebacks_from = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    @property
    def port(self) -> int:
        """Where clients connect; the same after every start."""
        return int(self.config["server"]["port"])

    @property
    def url(self) -> str:
        """The endpoint, without a token."""
        scheme = "wss" if "tls" in self.config["server"] else "ws"
        return f"{scheme}://127.0.0.1:{self.port}/ws/energy"

    @property
    def worker_count(self) -> int:
        """How many workers the next start has."""
        return int(self.config["server"]["workers"])

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the supervisor runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, stderr: int | None = None) -> Self:
        """Start it; its log goes to `lines`, or to a descriptor of the caller's."""
        assert not self.running, "the service is running already"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "energyws.cli", "serve", "--config", str(self.write())],
            stderr=subprocess.PIPE if stderr is None else stderr,
            env={**os.environ, **self.environment},
            # A Ctrl-C at the run is the run's business.
            start_new_session=True,
        )
        if self._process.stderr is not None:
            fcntl.fcntl(self._process.stderr, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
            self._reader.start()
        return self

    def write(self) -> Path:
        """Write the configuration; a running service is not told."""
        path = self.directory / "config.yaml"
        path.write_text(json.dumps(self.config))
        return path

    def ready(self, seconds: float = PATIENCE_SECONDS) -> Self:
        """Wait until it serves what is in the topic, with every worker."""
        deadline = time.monotonic() + seconds
        while not self._is_ready():
            if not self.running:
                raise AssertionError("the service has ended:\n" + "\n".join(self.lines[-30:]))
            if time.monotonic() > deadline:
                raise AssertionError(f"the service was not ready within {seconds:g} s")
            time.sleep(0.02)
        return self

    def admin(self, path: str) -> tuple[int, Any]:
        """Status and JSON of the admin port's answer; 0 and None where there is none."""
        url = f"http://127.0.0.1:{self.config['admin']['port']}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)
        except OSError:
            return 0, None

    def board(self, name: str) -> dict[str, int]:
        """A child's row of the stats board."""
        for child in self.admin("/workers")[1] or []:
            if child["name"] == name:
                board: dict[str, int] = child["board"]
                return board
        return {}

    def children(self) -> dict[str, psutil.Process]:
        """The child processes by name: consumer, worker-0, …"""
        found = {}
        for child in psutil.Process(self.pid).children():
            try:
                for argument in child.cmdline():
                    if argument.startswith("--name="):
                        found[argument.removeprefix("--name=")] = child
            except psutil.Error:
                # It has just ended.
                continue
        return found

    def child(self, name: str, seconds: float = PATIENCE_SECONDS) -> psutil.Process:
        """A child by name, once it runs."""
        deadline = time.monotonic() + seconds
        while (found := self.children().get(name)) is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"no child {name} within {seconds:g} s")
            time.sleep(0.01)
        return found

    def descriptors(self) -> dict[str, int]:
        """How many file descriptors each process has open; the supervisor is "supervisor"."""
        processes = {"supervisor": psutil.Process(self.pid), **self.children()}
        return {name: process.num_fds() for name, process in processes.items()}

    def hold_log(self, on: bool) -> None:
        """Leave the log unread, so that its pipe fills; or, with False, read on."""
        if on:
            self._reading.clear()
        else:
            self._reading.set()

    def logged(self, *parts: str, since: int = 0) -> list[str]:
        """The log lines, from the one numbered `since` on, that hold all of these."""
        return [line for line in self.lines[since:] if all(part in line for part in parts)]

    def take_tracebacks(self) -> list[str]:
        """Lines with a traceback since the last call."""
        begin, self._tracebacks_from = self._tracebacks_from, len(self.lines)
        return [line for line in self.lines[begin:] if "Traceback" in line or "traceback=" in line]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the supervisor's end; its exit code."""
        assert self._process is not None
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the supervisor did not end within {seconds:g} s") from None
        self._join(seconds)
        return code

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def end(self) -> None:
        """Make sure that nothing of it is left."""
        self.hold_log(False)
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                print("the service did not end when told to, at once", file=sys.stderr)
                # Its children end with it: they watch it in two ways.
                process.kill()
        process.wait()
        self._join(PATIENCE_SECONDS)

    def _join(self, seconds: float) -> None:
        if self._reader is not None:
            # The pipe's end: also the last child has closed it.
            self._reader.join(seconds)
            assert not self._reader.is_alive(), "something of the service still holds its log open"
            self._reader = None

    def _is_ready(self) -> bool:
        if self.admin("/ready")[0] != 200:
            return False
        children = self.admin("/workers")[1] or []
        ready = [child for child in children if child["state"] == "ready"]
        return len(ready) == self.worker_count + 1

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as log:
            for line in log:
                self._reading.wait()
                text = line.decode(errors="replace").rstrip("\n")
                self.lines.append(text)
                if _CROWD not in text:
                    self.log_bytes += len(line)
