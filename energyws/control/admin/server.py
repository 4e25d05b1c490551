"""The admin port: HTTP for operators, from threads that cannot hold up the supervisor."""

from __future__ import annotations

import hmac
import socket
import sys
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import orjson

from energyws.control.loopback import is_loopback
from energyws.errors import BootError
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.settings import Admin

REQUEST_SECONDS: Final = 5.0
MAX_REQUESTS_AT_ONCE: Final = 32
MAX_BODY_BYTES: Final = 4096
# From a failure of the accepting thread to its next attempt.
PAUSE_SECONDS: Final = 1.0

_log = Log("admin")
_limited = RateLimitedLog(_log, 10.0)

# By path: returns the status and JSON body of a GET.
Answers = dict[str, Callable[[], tuple[int, Any]]]
# By path: from the Accept header of a GET to content type and body.
Pages = dict[str, Callable[[str], tuple[str, bytes]]]
# By path: from the JSON body of a POST to the answer's status and JSON body.
Commands = dict[str, Callable[[Any], tuple[int, Any]]]
# Status, content type and body.
Sent = tuple[int, str, bytes]


class AdminServer:
    """Answers GET for each path in `answers` and `pages`, and POST for each in `commands`.

    POST requires `token`, which may be replaced; without one it is for loopback only.
    """

    def __init__(self, settings: Admin, answers: Answers, pages: Pages, commands: Commands) -> None:
        self.token = settings.token
        self._loopback = is_loopback(settings.host)
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        handler = _handler(answers, pages, commands, self._refusal)
        try:
            self._server = _Server(family, (settings.host, settings.port), handler)
        except OSError as error:
            raise BootError(
                f"admin.host, admin.port: cannot listen on {settings.host}:{settings.port}: "
                f"{error.strerror}"
            ) from None
        self.port: Final[int] = self._server.server_address[1]
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="admin", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and wait for the accepting thread."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                self._server.serve_forever()
            except Exception:
                # Without this thread probes fail and operators see nothing.
                _log.exception("the admin port failed: going on")
                self._closing.wait(PAUSE_SECONDS)

    def _refusal(self, headers: Message[str, str]) -> tuple[int, str] | None:
        """The status and text that refuse a POST with these headers; None: it may pass."""
        if self.token is None:
            if not self._loopback:
                return 403, "set admin.token: admin.host can be reached from elsewhere"
            if headers.get("Origin") is not None:
                # Any web page in a browser on this machine could send such a request.
                return 403, "not for browsers"
            return None
        scheme, _, sent = headers.get("Authorization", "").partition(" ")
        token = self.token.encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode(), token):
            return 401, "send Authorization: Bearer with admin.token"
        return None


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
        try:
            super().process_request(request, client_address)
        except BaseException:
            # No thread could be started for it.
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # An OSError means that the client went away or was too slow: not worth a log line.
        if not isinstance(sys.exc_info()[1], OSError):
            _limited.fault("an admin request failed")


def _as_json(status: int, body: Any) -> Sent:
    return status, "application/json", orjson.dumps(body)


def _handler(
    answers: Answers,
    pages: Pages,
    commands: Commands,
    refusal: Callable[[Message[str, str]], tuple[int, str] | None],
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            self._send_as(*self._answered(self._found))

        def _found(self) -> Sent:
            path = self.path.partition("?")[0]
            if (page := pages.get(path)) is not None:
                return 200, *page(self.headers.get("Accept", ""))
            if (answer := answers.get(path)) is not None:
                return _as_json(*answer())
            return _as_json(404, {"error": "no such path", "paths": sorted([*answers, *pages])})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            command = self._command()
            # Unread bytes of this request must not be taken for the next one.
            self.close_connection = True
            self._send_as(*self._answered(lambda: _as_json(*command())))

        def _command(self) -> Callable[[], tuple[int, Any]]:
            """The command, or the refusal, that the request calls for; reads its body."""
            command = commands.get(self.path.partition("?")[0])
            if command is None:
                return lambda: (404, {"error": "no such path for POST", "paths": sorted(commands)})
            if (refused := refusal(self.headers)) is not None:
                status, reason = refused
                return lambda: (status, {"error": reason})
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
                return lambda: (413, {"error": f"send Content-Length, {MAX_BODY_BYTES} at most"})
            data = self.rfile.read(int(length))
            try:
                body = orjson.loads(data) if data else None
            except orjson.JSONDecodeError:
                return lambda: (400, {"error": "the body is not JSON"})
            return lambda: command(body)

        def _answered(self, answer: Callable[[], Sent]) -> Sent:
            try:
                return answer()
            except Exception:
                # Not in handle_error, which takes every OSError for the client's doing.
                _limited.fault("an admin request failed")
                return _as_json(500, {"error": "a fault of the service: see its log"})

        def _send_as(self, status: int, content_type: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            # Not logged: probes come every few seconds.
            pass

    return Handler
