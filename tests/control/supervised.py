"""The supervisor as a process, with children that are scripts of a few lines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

from energyws.control.admin.client import AdminClient
from energyws.settings import Admin
from energyws.testing.service import eventually

HOST: Final = Path(__file__).parent / "child_scripts" / "host.py"
ROOT: Final = Path(__file__).parent.parent.parent


class Supervised:
    """A running supervisor; host: see child_scripts/host.py."""

    def __init__(
        self, scripts: dict[str, str], sections: dict[str, Any], host: dict[str, Any]
    ) -> None:
        settings: dict[str, Any] = {
            "kafka": {"brokers": "127.0.0.1:1", "topic": "t"},
            "server": {"host": "127.0.0.1", "port": 0, "workers": 2, "drain_seconds": 0},
            "auth": {"jwt_secret": "x" * 40},
            "admin": {"port": 0},
            "supervision": {"hang_seconds": 1, "backoff_max_seconds": 0.1},
        }
        for name, values in sections.items():
            settings[name] = {**settings.get(name, {}), **values}
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [
                sys.executable,
                str(HOST),
                json.dumps(settings),
                json.dumps(host),
                *(f"{name}={script}" for name, script in scripts.items()),
            ],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line.rstrip("\n"))

    def logged(self, *parts: str) -> list[str]:
        return [line for line in list(self.lines) if all(part in line for part in parts)]

    def wait_logged(self, *parts: str, count: int = 1) -> list[str]:
        lines: list[str] = eventually(
            lambda: (found := self.logged(*parts)) and len(found) >= count and found,
            f"{count} log lines with {parts}",
        )
        return lines

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()

    def child(self, name: str) -> psutil.Process:
        (pid,) = re.findall(r"pid=(\d+)", self.wait_logged("child started", f"child={name} ")[-1])
        return psutil.Process(int(pid))

    def admin(self, path: str) -> tuple[int, Any]:
        (port,) = re.findall(r"port=(\d+)", self.wait_logged("admin listening")[0])
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)

    def client(self) -> AdminClient:
        (port,) = re.findall(r"port=(\d+)", self.wait_logged("admin listening")[0])
        return AdminClient(Admin(port=int(port)))

    def ready(self) -> Supervised:
        eventually(lambda: self.admin("/ready")[0] == 200, "ready")
        return self

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        code = self._process.wait(30)
        self._reader.join(30)
        return code

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self.wait()
            assert self._process.stderr is not None
            self._process.stderr.close()


Run = Callable[..., Supervised]
