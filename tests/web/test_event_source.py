"""A browser's own EventSource and fetch against the real service, from a page of another origin."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from energyws.testing import Records, Service, eventually, token
from tests.http_clients import EventSource
from tests.web.agent import browse, program

pytestmark = [pytest.mark.e2e, pytest.mark.edge, pytest.mark.timeout(120)]

Serve = Callable[..., Service]
SECONDS = 40.0

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
def browsing(page: bytes, directory: Path) -> Iterator[list[dict[str, Any]]]:
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

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    command = browse(program("chromium"), f"http://127.0.0.1:{server.server_port}/", directory)
    browser = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(directory)},
        start_new_session=True,
    )
    try:
        yield told
    finally:
        browser.terminate()
        try:
            browser.wait(SECONDS)
        finally:
            browser.kill()
            browser.wait()
            server.shutdown()
            server.server_close()
            thread.join()


def test_event_source_comes_back_after_a_refusal_and_after_a_crash(
    serve: Serve, records: Records, tmp_path: Path
) -> None:
    service = serve(server={"workers": 1, "max_connections": 2}).ready()
    program("chromium")
    page = PAGE % json.dumps([f"http://127.0.0.1:{service.port}", token()])
    with EventSource(service) as first, EventSource(service) as second:
        first.until("subscribed")
        second.until("subscribed")
        with browsing(page.encode(), tmp_path) as told:

            def numbers() -> set[int]:
                return {each["n"] for each in list(told) if "n" in each}

            def tells(name: str) -> list[Any]:
                return [each[name] for each in list(told) if name in each]

            # A service that is full sends it away for a moment only.
            eventually(lambda: tells("problem"), "a refusal", SECONDS)
            assert tells("problem")[0]["code"] == "TOO_MANY_CONNECTIONS"
            first.close()
            second.close()
            eventually(lambda: tells("subscribed"), "a subscription", SECONDS)
            records.send(20)
            eventually(lambda: len(numbers()) == 20, "the records", SECONDS)
            eventually(lambda: tells("last"), "the newest record", SECONDS)
            assert [each for each in told if "last" in each] == [
                {"last": 200, "bad": "UNAUTHORIZED"}
            ]
            service.children()["worker-0"].kill()
            records.send(20)
            eventually(lambda: len(numbers()) == 40, "the records after a resume", SECONDS)
            assert tells("subscribed")[-1]["positions"]["energy"]["recovered"] is True
            assert numbers() == set(range(40))
            # It never gave up (2 is EventSource.CLOSED).
            assert set(tells("readyState")) == {0}
            # None of our events has called onerror.
            assert set(tells("data")) == {None}
