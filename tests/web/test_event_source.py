"""A browser's own EventSource and fetch against the real service, from a page of another origin."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from energyws.testing import Records, Service, eventually, token
from tests.http_clients import EventSource
from tests.web.agent import PATIENCE_SECONDS, browse, program

pytestmark = [pytest.mark.e2e, pytest.mark.edge, pytest.mark.timeout(180)]

Serve = Callable[..., Service]
PAGE = """<!doctype html><script type="module">
const [origin, token] = %s;
const tell = (what) => fetch('/', { method: 'POST', body: JSON.stringify(what) });
const source = new EventSource(`${origin}/sse/energy?token=${token}`);
source.onmessage = (event) => tell({ n: JSON.parse(event.data).data.n });
for (const name of ['subscribed', 'problem', 'notice', 'reconnect'])
  source.addEventListener(name, (event) => tell({ [name]: JSON.parse(event.data) }));
source.onerror = (event) => tell({ readyState: source.readyState, data: event.data ?? null });
const headers = { Authorization: `Bearer ${token}` };
let last = { status: 0 };
while (last.status !== 200) {
  await new Promise((done) => setTimeout(done, 200));
  last = await fetch(`${origin}/last/energy`, { headers });
  await last.text();
}
const bad = await fetch(`${origin}/last/energy`, { headers: { Authorization: 'Bearer x' } });
await tell({ last: last.status, bad: (await bad.json()).code });
</script>"""


@contextmanager
def browsing(page: bytes) -> Iterator[list[dict[str, Any]]]:
    """Chromium on a page; what the page tells."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(page)

        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    # pytest's directories have longer names than a browser's socket may have.
    temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    directory = Path(temporary.name)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    command = browse(program("chromium"), f"http://127.0.0.1:{server.server_port}/", directory)
    log = directory / "log"
    with log.open("w") as file:
        browser = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, "TMPDIR": str(directory)},
            start_new_session=True,
        )
    try:
        yield told
    finally:
        browser.terminate()
        try:
            browser.wait(PATIENCE_SECONDS)
        finally:
            browser.kill()
            browser.wait()
            server.shutdown()
            server.server_close()
            thread.join()
            # pytest shows it if a test fails.
            print(log.read_text()[-4000:])
            temporary.cleanup()


def test_event_source_comes_back_after_a_refusal_and_after_a_crash(
    serve: Serve, records: Records
) -> None:
    service = serve(server={"workers": 1, "max_connections": 2}).ready()
    program("chromium")
    page = PAGE % json.dumps([f"http://127.0.0.1:{service.port}", token()])
    with EventSource(service) as first, EventSource(service) as second:
        first.until("subscribed")
        second.until("subscribed")
        with browsing(page.encode()) as told:

            def numbers() -> set[int]:
                return {each["n"] for each in list(told) if "n" in each}

            def tells(name: str) -> list[Any]:
                return [each[name] for each in list(told) if name in each]

            # A service that is full sends it away for a moment only.
            eventually(lambda: tells("problem"), "a refusal", PATIENCE_SECONDS)
            assert tells("problem")[0]["code"] == "TOO_MANY_CONNECTIONS"
            first.close()
            second.close()
            eventually(lambda: tells("subscribed"), "a subscription", PATIENCE_SECONDS)
            records.send(20)
            eventually(lambda: len(numbers()) == 20, "the records", PATIENCE_SECONDS)
            eventually(lambda: tells("last"), "the newest record", PATIENCE_SECONDS)
            assert [each for each in told if "last" in each] == [
                {"last": 200, "bad": "UNAUTHORIZED"}
            ]
            service.children()["worker-0"].kill()
            records.send(20)
            eventually(lambda: len(numbers()) == 40, "the records after a resume", PATIENCE_SECONDS)
            assert tells("subscribed")[-1]["positions"]["energy"]["recovered"] is True
            assert numbers() == set(range(40))
            # It never gave up (2 is EventSource.CLOSED).
            assert set(tells("readyState")) == {0}
            # None of our events has called onerror.
            assert set(tells("data")) == {None}
