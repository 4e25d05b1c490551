"""A page of the documentation in a real browser, and what it shows."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.web.agent import browse, program


@contextmanager
def opened(directory: Path, fragment: str = "") -> Iterator[list[Any]]:
    """A browser on the index.html of a directory: the JSON that it has posted to /seen so far.

    What repeats the one before is left out.
    """
    seen: list[Any] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(directory))

        def do_POST(self) -> None:
            found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if seen[-1:] != [found]:
                seen.append(found)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    executable = program("chromium")
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/#{fragment}"
        browser = subprocess.Popen(
            browse(executable, url, Path(profile)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield seen
        finally:
            browser.terminate()
            browser.wait(30)
            server.shutdown()
            thread.join()
