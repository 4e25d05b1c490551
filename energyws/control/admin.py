"""The operators' HTTP port: a thread that reads a snapshot and can disturb nobody."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import orjson

from energyws.errors import BootError
from energyws.log import Log
from energyws.settings import Admin

REQUEST_SECONDS: Final = 5.0
MAX_REQUESTS_AT_ONCE: Final = 32

_log = Log("admin")

# Path to status and JSON body.
Answers = dict[str, Callable[[], tuple[int, Any]]]


class AdminServer:
    """Answers GET for each path in `answers`, from threads of its own."""

    def __init__(self, settings: Admin, answers: Answers) -> None:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            self._server = _Server(family, (settings.host, settings.port), _handler(answers))
        except OSError as error:
            raise BootError(
                f"admin.host, admin.port: cannot listen on {settings.host}:{settings.port}: "
                f"{error.strerror}"
            ) from None
        self.port: Final[int] = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="admin", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self,
        family: socket.AddressFamily,
        address: tuple[str, int],
        handler: type[BaseHTTPRequestHandler],
    ) -> None:
        self.address_family = family
        self._room = threading.BoundedSemaphore(MAX_REQUESTS_AT_ONCE)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away or dawdled is its own business.
        if not isinstance(sys.exc_info()[1], OSError):
            _log.exception("an admin request failed")


def _handler(answers: Answers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            if answer is None:
                status, body = 404, {"error": "no such path", "paths": sorted(answers)}
            else:
                status, body = answer()
            data = orjson.dumps(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            # Probes come every few seconds; their log says nothing.
            pass

    return Handler
