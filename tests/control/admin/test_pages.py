"""What pages of other sites can do to the admin port, in a real browser: nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from energyws.control.admin.guard import for_port
from energyws.control.admin.server import AdminServer
from energyws.control.admin.sockets import listen_on_address
from energyws.settings import Admin
from tests.web.agent import program

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    # The name of a site that has pointed it at this machine.
    "--host-resolver-rules=MAP site.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
ASK = """async ([url, options]) => {
    try {
        return (await fetch(url, options)).status;
    } catch {
        return "refused by the browser";
    }
}"""
FORM = """([url, type]) => {
    document.body.innerHTML = `<iframe name="target"></iframe>
        <form method="post" action="${url}" enctype="${type}" target="target">
        <input name='{"workers": 9, "x": "' value='"}'></form>`;
    const loaded = new Promise((done) => document.querySelector("iframe").onload = done);
    document.querySelector("form").submit();
    return loaded;
}"""


class Empty(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><body>")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[int]:
    """The port of another web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def page() -> Iterator[Page]:
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program("chromium"), args=OPTIONS) as browser,
    ):
        yield browser.new_page()


def test_pages_can_neither_look_nor_act(site: int, page: Page) -> None:
    done: list[Any] = []

    def scale(body: Any) -> tuple[int, Any]:
        done.append(body)
        return 200, {}

    server = AdminServer(
        listen_on_address("admin.port", "127.0.0.1", 0),
        for_port(Admin()),
        {"/ready": lambda: (200, {}), "/status": lambda: (200, {"secret": True})},
        {},
        {"/workers": scale},
    )
    asked = {"method": "POST", "body": '{"workers": 9}'}
    json = {**asked, "headers": {"Content-Type": "application/json"}}
    admin = f"http://127.0.0.1:{server.port}"
    try:
        # A page whose name now leads here has the admin port for its own site.
        page.goto(f"http://site.example:{server.port}/ready")
        assert page.evaluate(ASK, ["/ready", {}]) == 200
        for path, options in (("/status", {}), ("/workers", asked), ("/workers", json)):
            assert page.evaluate(ASK, [path, options]) == 421
        for origin in (f"http://127.0.0.1:{site}", f"http://site.example:{site}"):
            page.goto(origin)
            for mode in ("no-cors", "cors"):
                for path, options in (("/status", {}), ("/workers", asked), ("/workers", json)):
                    found = page.evaluate(ASK, [f"{admin}{path}", {**options, "mode": mode}])
                    # 0: sent, but its answer is hidden from the page.
                    assert found in (0, "refused by the browser")
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
                page.evaluate(FORM, [f"{admin}/workers", kind])
        assert done == []
    finally:
        server.close()
