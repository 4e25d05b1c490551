"""The admin port: HTTP for operators, from threads that cannot hold up the supervisor."""

from __future__ import annotations

import io
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import orjson

from energyws.control.admin.guard import Guard
from energyws.control.admin.visits import Visits
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog

# For a client to send its request, and again to take the answer.
REQUEST_SECONDS: Final = 5.0
MAX_REQUESTS_AT_ONCE: Final = 32
# The standard library alone would take 100 fields of 64 KiB each.
MAX_HEAD_BYTES: Final = 128 * 1024
MAX_BODY_BYTES: Final = 4096
MAX_LOGGED_CHARACTERS: Final = 100
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

    listening: a socket that listens; `close` closes it. guard: may be replaced. port: 0 if the
    socket has none.
    """

    def __init__(
        self,
        listening: socket.socket,
        guard: Guard,
        answers: Answers,
        pages: Pages,
        commands: Commands,
    ) -> None:
        self.guard = guard
        handler = _handler(answers, pages, commands, lambda: self.guard)
        self._server = _Server(listening, handler)
        at = listening.getsockname()
        self.port: Final[int] = at[1] if isinstance(at, tuple) else 0
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


class _Request(io.BufferedIOBase):
    """A request's bytes; `readline` raises LineTooLong beyond MAX_HEAD_BYTES in all."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._left = MAX_HEAD_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:
        line = self._file.readline(size)
        self._left -= len(line)
        if self._left < 0:
            raise LineTooLong("head")
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listening: socket.socket, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("", 0), handler, bind_and_activate=False)
        # Its own was never bound: the standard library would look up a name for its address.
        self.socket.close()
        self.socket = listening
        self.visits = Visits(MAX_REQUESTS_AT_ONCE, REQUEST_SECONDS)

    def service_actions(self) -> None:
        self.visits.drop_overdue()

    def process_request(self, request: Any, client_address: Any) -> None:
        # A Unix socket's clients have no address.
        address = client_address[0] if client_address else ""
        if not self.visits.begin(request, address):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            # No thread could be started for it.
            self.visits.end(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.visits.end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # An OSError means that the client went away or was too slow: not worth a log line.
        if not isinstance(sys.exc_info()[1], OSError):
            _limited.fault("an admin request failed")


def _as_json(status: int, body: Any) -> Sent:
    return status, "application/json", orjson.dumps(body)


def _handler(
    answers: Answers, pages: Pages, commands: Commands, guard: Callable[[], Guard]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS
        server: _Server

        def setup(self) -> None:
            super().setup()
            self.rfile = _Request(self.rfile)

        def do_GET(self) -> None:
            self._answer(self._found)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            command = self._command()
            # Unread bytes of this request must not be taken for the next one.
            self.close_connection = True
            self._answer(lambda: _as_json(*command()))

        def _found(self) -> Sent:
            path = self.path.partition("?")[0]
            if (refused := self._refusal("GET", path)) is not None:
                return _as_json(*refused)
            if (page := pages.get(path)) is not None:
                return 200, *page(self.headers.get("Accept", ""))
            if (answer := answers.get(path)) is not None:
                return _as_json(*answer())
            return _as_json(404, {"error": "no such path", "paths": sorted([*answers, *pages])})

        def _command(self) -> Callable[[], tuple[int, Any]]:
            """The command, or the refusal, that the request calls for; reads its body."""
            path = self.path.partition("?")[0]
            command = commands.get(path)
            if command is None:
                return lambda: (404, {"error": "no such path for POST", "paths": sorted(commands)})
            if (refused := self._refusal("POST", path)) is not None:
                return lambda: refused
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
                return lambda: (413, {"error": f"send Content-Length, {MAX_BODY_BYTES} at most"})
            data = self.rfile.read(int(length))
            try:
                body = orjson.loads(data) if data else None
            except orjson.JSONDecodeError:
                return lambda: (400, {"error": "the body is not JSON"})
            return lambda: command(body)

        def _refusal(self, method: str, path: str) -> tuple[int, Any] | None:
            if (refused := guard().refusal(method, path, self.headers)) is None:
                return None
            status, reason = refused
            if status == HTTPStatus.MISDIRECTED_REQUEST:
                # A page, or a proxy of the operators, who would look for the reason in the log.
                host = self.headers.get("Host", "")[:MAX_LOGGED_CHARACTERS]
                _limited.warning("admin request by a name that is not in admin.hosts", host=host)
            return status, {"error": reason}

        def _answer(self, answer: Callable[[], Sent]) -> None:
            if not self.server.visits.answering(self.connection):
                return
            try:
                sent = answer()
            except Exception:
                # Not in handle_error, which takes every OSError for the client's doing.
                _limited.fault("an admin request failed")
                sent = _as_json(500, {"error": "a fault of the service: see its log"})
            self._send(*sent)

        def _send(self, status: int, content_type: str, data: bytes) -> None:
            self.server.visits.sending(self.connection)
            # Not send_response, which tells the versions of Python and its server.
            self.send_response_only(status)
            self.send_header("Date", self.date_time_string())
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            if status == HTTPStatus.UNAUTHORIZED:
                self.send_header("WWW-Authenticate", "Bearer")
            # Browsers then keep the answer from the pages of other sites.
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def send_error(
            self, code: int, message: str | None = None, explain: str | None = None
        ) -> None:
            # `message` may repeat the request.
            self.close_connection = True
            # A line that is no request is taken for HTTP/0.9, whose answers have no head.
            self.request_version = self.protocol_version
            self._send(*_as_json(code, {"error": HTTPStatus(code).phrase}))

        def log_message(self, format: str, *args: Any) -> None:
            # Not logged: probes come every few seconds.
            pass

    return Handler
