"""What the visitors load, and that they notice a refusal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.kit.visitors import PAGE, PATHS, Visitors, files_of
from energyws.testing import eventually


@pytest.mark.parametrize(
    ("path", "text", "files"),
    [
        (
            "/",
            b'<link href="static/a.css"><script src="/b.js"></script>',
            {"/static/a.css", "/b.js"},
        ),
        (
            "/static/app.js",
            b"import { x } from './chart.js';\nimport \"../c.js\";",
            {"/static/chart.js", "/c.js"},
        ),
        ("/", b'<a href="https://example.com/x.html"><a href="#now"><img src="data:,">', set()),
    ],
)
def test_files_of_a_page_are_those_on_its_own_server(
    path: str, text: bytes, files: set[str]
) -> None:
    assert files_of(path, text) == files


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        server.seen.append((self.path, self.headers["Authorization"]))
        self.send_response(server.status)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str]] = []


@contextmanager
def running(status: int) -> Iterator[Server]:
    with Server() as server:
        server.status = status
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_programs_ask_for_every_path_with_the_tokens_in_turn() -> None:
    with running(200) as server, Visitors(server.server_port, ["a", "b"]) as visitors:
        visitors.begin(0, 200.0)
        eventually(lambda: len(server.seen) >= 2 * len(PATHS), "each path is asked for twice")
        visits = visitors.end()
    assert visits["problems"] == []
    assert visits["responses"] >= len(PATHS)
    assert {path for path, _ in server.seen} == {*PATHS, PAGE}
    assert {bearer for _, bearer in server.seen} == {"Bearer a", "Bearer b"}


def test_too_many_requests_are_counted() -> None:
    with running(429) as server, Visitors(server.server_port, ["a"]) as visitors:
        visitors.begin(0, 200.0)
        eventually(lambda: len(server.seen) > 20, "they ask")
        visits = visitors.end()
    assert visits["refused"] >= 1
    assert (visits["responses"], visits["problems"]) == (0, [])


@pytest.mark.parametrize(("pages", "rate"), [(1, 0.0), (0, 200.0)])
def test_failure_is_a_problem(pages: int, rate: float) -> None:
    with running(500) as server, Visitors(server.server_port, ["a"]) as visitors:

        def problems() -> list[str]:
            seen = len(server.seen)
            visitors.begin(pages, rate)
            eventually(lambda: len(server.seen) > seen, "they ask")
            # Before it is answered, perhaps.
            found: list[str] = visitors.end()["problems"]
            return found

        assert "was answered with 500" in eventually(problems, "they notice")[0]
