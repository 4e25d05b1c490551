"""Runs the JavaScript client in Node or in a browser, and collects its reports."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

import pytest

from energyws.testing import eventually

ROOT: Final = Path(__file__).parent.parent.parent
PATIENCE_SECONDS: Final = 60.0
_MODULE: Final = "tests/web/agent.mjs"
_SERVED: Final = ("energyws/web/energyws.js", _MODULE)
_PAGE: Final = f'<!doctype html><script type="module" src="/{_MODULE}"></script>'.encode()
_PACKAGES: Final = {
    "node": "Node.js >= 20",
    "tsc": "Debian's node-typescript, or the npm package typescript",
    "chromium": "Debian's chromium",
    "npm": "Node.js, or Debian's npm",
    "curl": "Debian's curl",
    "jq": "Debian's jq",
    "mosquitto": "Debian's mosquitto",
    "haproxy": "Debian's haproxy",
    "nginx": "Debian's nginx-light",
}
# Timers of hidden pages keep their pace; the browser connects to nothing but the test.
CHROMIUM_OPTIONS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def program(name: str) -> str:
    """The path of a program; without it the test is skipped, or fails in CI."""
    # Debian's servers are outside of most users' PATH.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        message = f"{name} is not installed: it comes with {_PACKAGES[name]}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


class Job:
    """One client. `events`: its reports so far."""

    def __init__(self, number: int, request: dict[str, Any]) -> None:
        self.request = {"id": number, **request}
        self.events: list[dict[str, Any]] = []
        self.connects = 0
        self.over = False
        self.stopping = False
        # Whether the application takes no further message for now.
        self.busy: bool = request["busy"]

    def _all(self, kind: str) -> list[Any]:
        return [event[kind] for event in list(self.events) if kind in event]

    @property
    def numbers(self) -> list[int]:
        """The numbers of the readings."""
        return self._all("n")

    @property
    def gaps(self) -> list[dict[str, Any]]:
        """The gaps between them."""
        return self._all("gap")

    @property
    def removed(self) -> list[str]:
        """The removed keys."""
        return self._all("removed")

    @property
    def states(self) -> list[str]:
        """Every state, in order."""
        return self._all("state")

    @property
    def error(self) -> dict[str, Any] | None:
        """The error that ended the iteration, if any."""
        errors: list[dict[str, Any]] = self._all("error")
        return errors[0] if errors else None

    def live(self) -> Self:
        """Wait until it has subscribed."""
        self.wait(lambda: "live" in self.states, "a subscription")
        return self

    def connected(self, count: int) -> None:
        """Wait until it has had `count` connections."""
        self.wait(lambda: self.connects >= count, f"{count} connections")

    def wait(self, condition: Callable[[], Any], awaited: str) -> None:
        """Wait for a condition on the client's reports."""
        eventually(lambda: condition() or self.over, awaited, PATIENCE_SECONDS)
        assert condition(), f"the client has ended without {awaited}: {self.events[-3:]}"

    def refused(self) -> dict[str, Any]:
        """Wait until it has given up; the error."""
        eventually(lambda: self.over, "a refusal", PATIENCE_SECONDS)
        assert self.error is not None
        return self.error

    def stop(self) -> None:
        """End the client."""
        self.stopping = True
        eventually(lambda: self.over, "the end of the client", PATIENCE_SECONDS)


class Agent:
    """A process that runs clients. command: starts it, given the URL of this server."""

    def __init__(self, command: Callable[[str, Path], list[str]]) -> None:
        self.mint: Callable[[], str] = str
        self._jobs: dict[int, Job] = {}
        self._waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._command = command

    def __enter__(self) -> Self:
        self._thread.start()
        directory = Path(self._directory.name)
        self._log = (directory / "log").open("w+")
        self._process = subprocess.Popen(
            self._command(self.origin, directory),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            # A browser leaves files there, which are removed with the directory.
            env={**os.environ, "TMPDIR": str(directory)},
            start_new_session=True,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._log.seek(0)
            # pytest shows it if a test fails.
            print(self._log.read()[-4000:])
            self._log.close()
            self._directory.cleanup()

    def start(
        self,
        url: str,
        *,
        renew: Callable[[], str] | None = None,
        busy: bool = False,
        **options: Any,
    ) -> Job:
        """A client with these options.

        renew: gives fresh tokens, instead of the token in the options; raises ConnectionError for
        a failure that may pass, PermissionError for one that does not. busy: the application takes
        one message, and the next ones once `busy` of the job is False.
        """
        if renew is not None:
            self.mint = renew
        request = {"url": url, "options": options, "renew": renew is not None, "busy": busy}
        job = Job(len(self._jobs), request)
        self._jobs[len(self._jobs)] = job
        self._waiting.put(job)
        return job

    def next_job(self) -> Job | None:
        """The next job, if there is one soon."""
        try:
            return self._waiting.get(timeout=0.2)
        except queue.Empty:
            return None

    def take(self, report: dict[str, Any]) -> dict[str, bool]:
        """Add a client's reports; what it should do."""
        job = self._jobs[report["id"]]
        job.events += report["events"]
        job.connects = report["connects"]
        job.over = report["over"]
        return {"stop": job.stopping, "busy": job.busy}


def node() -> Agent:
    """Clients in Node; Node 20 has a WebSocket only with this option."""
    executable = program("node")
    module = str(ROOT / _MODULE)
    return Agent(lambda url, _: [executable, "--experimental-websocket", module, url])


def chromium() -> Agent:
    """Clients in a page of a real browser."""
    executable = program("chromium")
    return Agent(lambda url, directory: browse(executable, f"{url}/", directory))


def browse(executable: str, page: str, directory: Path) -> list[str]:
    """The command that opens a page in Chromium, whose profile goes into a directory."""
    profile = f"--user-data-dir={directory / 'profile'}"
    return [executable, *CHROMIUM_OPTIONS, profile, page]


def _handler(agent: Agent) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path[1:]
            if path == "":
                self._answer(_PAGE, "text/html")
            elif path in _SERVED:
                self._answer((ROOT / path).read_bytes(), "text/javascript")
            elif path == "token":
                self._token()
            elif path == "job" and (job := agent.next_job()) is not None:
                self._answer(json.dumps(job.request).encode(), "application/json")
            elif path == "job":
                self._answer(b"", "text/plain", 204)
            else:
                self._answer(b"", "text/plain", 404)

        def do_POST(self) -> None:
            report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told = agent.take(report)
            self._answer(json.dumps(told).encode(), "application/json")

        def _token(self) -> None:
            try:
                self._answer(agent.mint().encode(), "text/plain")
            except PermissionError:
                self._answer(b"", "text/plain", 403)
            except ConnectionError:
                self._answer(b"", "text/plain", 500)

        def _answer(self, body: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", "no-store")
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            # The client may have ended meanwhile.
            with suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: there are forty posts a second."""

    return Handler
