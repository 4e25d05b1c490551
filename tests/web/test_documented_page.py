"""The page without a framework in docs/clients.md works as it is, in a real browser."""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from energyws.testing import Records, Service, eventually, token
from tests.web.agent import CHROMIUM_OPTIONS, ROOT, program

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

DOCUMENTED = "ws://localhost:8080/ws/energy"
# Added behind the page: it tells the test what the page shows.
TELL = """<script>
setInterval(() => fetch('/shown', { method: 'POST', body: document.body.innerText }), 50);
</script>"""


class Site(ThreadingHTTPServer):
    """The page and its module; `shown` is the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {
            "/": ("text/html", page.encode()),
            "/energyws.js": (
                "text/javascript",
                (ROOT / "energyws" / "web" / "energyws.js").read_bytes(),
            ),
        }
        self.shown = ""


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        kind, body = self.server.files.get(self.path, ("text/plain", b""))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.server.shown = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: there are twenty posts a second."""


@contextmanager
def opened(page: str, fragment: str) -> Iterator[Site]:
    """The page in a browser."""
    executable = program("chromium")
    with (
        Site(page) as site,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
    ):
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{site.server_port}/#{fragment}"
        browser = subprocess.Popen(
            [executable, *CHROMIUM_OPTIONS, f"--user-data-dir={directory}", url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield site
        finally:
            browser.terminate()
            browser.wait()
            site.shutdown()
            thread.join()


def test_page_shows_the_newest_reading_and_its_state(
    serve: Callable[..., Service], records: Records
) -> None:
    found = re.search(r"```html\n(.*?)```", (ROOT / "docs" / "clients.md").read_text(), re.DOTALL)
    assert found is not None
    assert DOCUMENTED in found[1]
    service = serve().ready()
    records.send(1, power=230)
    service.caught_up(records)
    page = found[1].replace(DOCUMENTED, service.url) + TELL
    with opened(page, f"token={token()}") as site:
        eventually(lambda: site.shown.split() == ["230", "W", "live"], "the reading")
        records.send(1, power=-80.5)
        eventually(lambda: site.shown.split() == ["-80.5", "W", "live"], "a live reading")
