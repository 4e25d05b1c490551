"""A scripted server: plays the server's part of a case to one client, over as many connections as
it makes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any, Final, Self

import orjson

from energyws.testing.conformance.patterns import mismatch, shown
from energyws.testing.conformance.table import ClientCase
from energyws.testing.conformance.wire import Wire, accept
from energyws.testing.waiting import eventually

# The number of the reading that ends a case.
LAST: Final = 99
TOKEN: Final = "header.payload.signature"
_STEP_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 2.0


class Stage:
    """url: where the client connects. token_url: where it gets a fresh token by GET: 200, or 503
    while there is none, or 403 when there will be none.

    calls: how often it has asked for one. heard: its messages. faults: what it did wrong.
    """

    def __init__(self, case: ClientCase) -> None:
        self.calls = 0
        self.connections = 0
        self.heard: list[dict[str, Any]] = []
        self.faults: list[str] = []
        self._scenes = list(case.connections)
        self._outcomes = list(case.token) if case.has_function else ["gives"]
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"ws://{place}/ws/energy"
        self.token_url = f"http://{place}/token"
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *exception: object) -> None:
        # Not close(), which would not wake the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def mint(self) -> str:
        """A fresh token.

        Raises ConnectionError where the case has none for now, PermissionError where it has none
        any more.
        """
        with self._lock:
            self.calls += 1
            outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if outcome == "fails":
            raise ConnectionError("no token now")
        if outcome == "ends":
            raise PermissionError("no token any more")
        return TOKEN

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        wire = Wire(connection, masks=False)
        # A client may end its connection at any time; what it failed to do shows elsewhere.
        with contextlib.suppress(OSError):
            first, headers = wire.head(time.monotonic() + _STEP_SECONDS)
            if first.split(" ")[1] == "/token":
                self._give_token(wire)
            else:
                self._play(wire, headers)
        self._open.discard(connection)
        wire.shut()

    def _give_token(self, wire: Wire) -> None:
        status, body = "200 OK", b""
        try:
            body = self.mint().encode()
        except ConnectionError:
            status = "503 Service Unavailable"
        except PermissionError:
            status = "403 Forbidden"
        _respond(wire, status, "text/plain", body)

    def _play(self, wire: Wire, headers: dict[str, str]) -> None:
        with self._lock:
            self.connections += 1
            scene = self._scenes.pop(0) if len(self._scenes) > 1 else self._scenes[0]
        refusal = scene.get("refuse")
        if refusal and "authorization" in headers:
            body = orjson.dumps(refusal["message"])
            _respond(wire, f"{refusal['status']} Refused", "application/json", body)
            return
        protocols = headers.get("sec-websocket-protocol", "").replace(" ", "").split(",")
        lines = [
            *("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"),
            f"Sec-WebSocket-Accept: {accept(headers.get('sec-websocket-key', ''))}",
            *(["Sec-WebSocket-Protocol: energyws"] if "energyws" in protocols else []),
        ]
        wire.write("\r\n".join([*lines, "", ""]).encode())
        steps = scene.get("steps", [])
        if refusal:
            message = {**refusal["message"], "type": refusal["type"]}
            steps = [{"send": message}, {"close": refusal["close"]}]
        for step in steps:
            if not self._step(wire, step):
                return
        # The server ends the connection after the closes (RFC 6455 section 7.1.1).
        while wire.receive(time.monotonic() + _STEP_SECONDS).kind not in ("close", "end"):
            pass

    def _step(self, wire: Wire, step: dict[str, Any]) -> bool:
        """Play one step; whether the connection goes on."""
        match step:
            case {"expect": pattern}:
                message = self._hear(wire)
                if message is None:
                    return False
                if reason := mismatch(pattern, message, {}):
                    self.faults.append(f"connection {self.connections}: {reason}")
                    return False
            case {"send": message, **how}:
                wire.message(orjson.dumps(message), **how)
            case {"text": text}:
                wire.message(text.encode())
            case {"tokens": count}:
                try:
                    eventually(lambda: self.calls >= count, f"{count} requests for a token")
                except AssertionError as error:
                    self.faults.append(str(error))
                    return False
            case {"drop": True}:
                return False
            case {"close": {"code": code, "reason": reason}}:
                wire.close(code, reason)
                deadline = time.monotonic() + _CLOSE_SECONDS
                while wire.receive(deadline).kind == "message":
                    pass
                return False
            case _:
                raise AssertionError(step)
        return True

    def _hear(self, wire: Wire) -> dict[str, Any] | None:
        """The next message of the client but for pings; None if it ends the connection."""
        while (event := wire.receive(time.monotonic() + _STEP_SECONDS)).kind == "message":
            message = orjson.loads(event.payload)
            self.heard.append(message)
            if message.get("type") != "ping":
                return message  # type: ignore[no-any-return]
            wire.message(orjson.dumps({"type": "pong", "timestamp": "1970-01-01T00:00:00.000Z"}))
        if event.kind == "close":
            self.faults.append(
                f"closed with {event.code} instead of a message: {shown(self.heard)}"
            )
        return None


def _respond(wire: Wire, status: str, kind: str, body: bytes) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    wire.write(head.encode() + b"Connection: close\r\n\r\n" + body)
