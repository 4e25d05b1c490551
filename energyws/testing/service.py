"""The real service, `energyws serve`, as a process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final, Self

import psutil

from energyws.auth.verifier import mint
from energyws.testing.broker_process import FAST_FETCH
from energyws.testing.records import Records
from energyws.testing.waiting import PATIENCE_SECONDS, eventually

SECRET: Final = "a-secret-of-more-than-thirty-two-bytes"
_PORT: Final = re.compile(r"\bport\"?[=:]([0-9]+)")
# When something goes wrong, the last lines of the log are the ones that tell why.
_LAST_LINES: Final = 30


class Service:
    """A service with a configuration of its own: started when made, ended with the block.

    Where the configuration says port 0, it gets a free one. environment: variables on top of this
    process's own. descriptors: its limit of open files. program: the module that has `serve`.
    checkout: another working tree, whose code and `.venv` it is started from.

    config: may be changed before the next `start`. lines: the log since the first start.
    """

    def __init__(
        self,
        directory: Path,
        config: dict[str, Any],
        *,
        environment: Mapping[str, str] | None = None,
        descriptors: int | None = None,
        program: str = "energyws.cli",
        checkout: Path | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.config = config
        self.config_path = directory / "config.yaml"
        self.lines: list[str] = []
        self._environment = environment or {}
        python = sys.executable if checkout is None else str(checkout / ".venv/bin/python")
        limited = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}"]
        self._command = [*limited, python, "-m", program, "serve", f"--config={self.config_path}"]
        self._checkout = checkout
        self._reader: threading.Thread | None = None
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def start(self, stderr: int = subprocess.PIPE) -> Self:
        """Start it, also again after it has ended; its log goes to `lines`, or to a descriptor."""
        self.write_config()
        self._logged_before = len(self.lines)
        self._process = subprocess.Popen(
            self._command,
            cwd=self._checkout,
            stderr=stderr,
            env={**os.environ, **self._environment},
            # A Ctrl-C at the terminal is for the test run, not for the service.
            start_new_session=True,
        )
        if self._process.stderr is not None:
            self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
            self._reader.start()
        return self

    def write_config(self) -> None:
        """Write the configuration's file; a running service reads it at its next reload."""
        self.config_path.write_text(json.dumps(self.config))

    @property
    def pid(self) -> int:
        """The process id of the supervisor."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the supervisor runs."""
        return self._process.poll() is None

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self._listens_on("server")

    @property
    def admin_port(self) -> int:
        """Where operators look."""
        return self._listens_on("admin")

    @property
    def url(self) -> str:
        """The endpoint, without a token."""
        scheme = "wss" if "tls" in self.config["server"] else "ws"
        return f"{scheme}://127.0.0.1:{self.port}/ws/energy"

    def logged(self, *parts: str, since: int = 0) -> list[str]:
        """The log lines, from number `since` on, that contain all of these."""
        return [line for line in self.lines[since:] if all(part in line for part in parts)]

    def wait_logged(self, *parts: str) -> str:
        """The first such line since the last start, once there is one."""

        def found() -> str | None:
            lines = self.logged(*parts, since=self._logged_before)
            if not lines:
                self._assert_running()
            return lines[0] if lines else None

        line: str = eventually(found, f"a log line with {parts}")
        return line

    def admin(self, path: str) -> tuple[int, Any]:
        """Status and JSON of the admin port's response; 0 and None when there is none."""
        secret = self.config.get("admin", {}).get("token")
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        connection = HTTPConnection("127.0.0.1", self.admin_port, timeout=5)
        try:
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as response:
                return response.status, json.load(response)
        except (OSError, HTTPException):
            return 0, None
        finally:
            connection.close()

    def boards(self) -> dict[str, dict[str, Any]]:
        """The counters of every child by its name, as /workers has them."""
        return {child["name"]: child["board"] for child in self.admin("/workers")[1] or []}

    def ready(self, seconds: float = PATIENCE_SECONDS) -> Self:
        """Wait until it serves what is in the topic, with every worker."""
        eventually(self._is_ready, "the service is ready", seconds)
        return self

    def caught_up(self, records: Records, less: int = 0) -> None:
        """Wait until every worker has a frame for all but `less` of the records that were sent."""

        def complete() -> bool:
            boards = [board for name, board in self.boards().items() if name != "consumer"]
            return bool(boards) and all(board["frames"] >= records.sent - less for board in boards)

        eventually(complete, "every worker has every record")

    def children(self) -> dict[str, psutil.Process]:
        """The child processes by name: consumer, worker-0, …"""
        found = {}
        for child in psutil.Process(self.pid).children():
            try:
                arguments = child.cmdline()
            except psutil.Error:
                # It has just ended.
                continue
            for argument in arguments:
                if argument.startswith("--name="):
                    found[argument.removeprefix("--name=")] = child
        return found

    def processes(self) -> dict[str, psutil.Process]:
        """The children, and the supervisor as "supervisor"."""
        return {"supervisor": psutil.Process(self.pid), **self.children()}

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait until the supervisor has ended; its exit code."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the supervisor did not end within {seconds:g} s") from None
        self._join()
        return code

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Make sure that nothing of it is left, whatever state it is in."""
        if self.running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGQUIT)
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            # Its children end with it.
            self._process.kill()
        self._process.wait()
        self._join()

    def _listens_on(self, section: str) -> int:
        if port := self.config.get(section, {}).get("port"):
            return int(port)
        # The service logs its own port first, then that of the admin server.
        self.wait_logged("admin listening")
        lines = self.logged("listening", "port", since=self._logged_before)
        line = next(line for line in lines if ("admin" in line) == (section == "admin"))
        match = _PORT.search(line)
        assert match is not None
        return int(match[1])

    def _is_ready(self) -> bool:
        self._assert_running()
        if self.admin("/ready")[0] != 200:
            return False
        children = self.admin("/workers")[1] or []
        return bool(children) and all(child["state"] == "ready" for child in children)

    def _assert_running(self) -> None:
        if not self.running:
            if self._reader is not None:
                # What it wrote last may still be in the pipe.
                self._reader.join(1)
            log = "\n".join(self.lines[-_LAST_LINES:])
            raise AssertionError(f"the service has ended:\n{log}")

    def _join(self) -> None:
        if self._reader is not None:
            # The pipe ends when the last child has closed it.
            self._reader.join(PATIENCE_SECONDS)
            assert not self._reader.is_alive(), "a process of the service still has its log open"
            self._reader = None

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as log:
            for line in log:
                self._take(line)

    def _take(self, line: bytes) -> None:
        self.lines.append(line.decode(errors="replace").rstrip("\n"))


def config(brokers: str, topic: str, **sections: dict[str, Any]) -> dict[str, Any]:
    """A configuration for tests: loopback, free ports, two workers; sections are merged in."""
    base: dict[str, Any] = {
        "kafka": {
            "brokers": brokers,
            "topic": topic,
            "metadata_refresh_seconds": 0.5,
            "options": FAST_FETCH,
        },
        "server": {
            "host": "127.0.0.1",
            "port": 0,
            "workers": 2,
            "drain_seconds": 0.2,
            "close_timeout_seconds": 0.5,
        },
        "auth": {"jwt_secret": SECRET},
        "admin": {"port": 0},
    }
    for name, values in sections.items():
        base[name] = {**base.get(name, {}), **values}
    return base


def token(subject: str = "tester", seconds: float = 3600, **claims: Any) -> str:
    """A token that a service with this `config` accepts. claims: `streams`, `keys`."""
    lists = claims.get("streams"), claims.get("keys")
    return mint(SECRET, subject, int(seconds), time.time(), *lists)
