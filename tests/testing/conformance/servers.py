"""Servers for tests of the kit, on an independent WebSocket library."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from energyws.testing.conformance.target import Target

Answer = Callable[[dict[str, Any]], list[dict[str, Any]]]


def correct(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers of a server that knows ping, and subscribe with two records."""
    if message["type"] == "ping":
        return [{"type": "pong", "timestamp": "2026-01-01T00:00:00.000Z"}]
    data = {"type": "data", "stream": "energy", "timestamp": "2026-01-01T00:00:00.000Z"}
    start = {"position": "aa-0", "recovered": True, "replayed": 2}
    return [
        {"type": "subscribed", "streams": ["energy"], "positions": {"energy": start}},
        *({**data, "data": {}, "id": f"aa-{n}"} for n in (1, 2)),
    ]


@contextmanager
def server(answer: Answer, *, status: int = 101, seconds: float = 20) -> Iterator[Target]:
    """A server that answers each message; status: of every answer to a handshake."""

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        if request.path.startswith(("/sse/", "/last/", "/history/")):
            return connection.respond(404, "no")  # type: ignore[arg-type]
        return None if status == 101 else connection.respond(status, "no")  # type: ignore[arg-type]

    def play(connection: ServerConnection) -> None:
        try:
            for message in connection:
                for reply in answer(orjson.loads(message)):
                    connection.send(orjson.dumps(reply).decode())
        except ConnectionClosed:
            pass

    with serve(play, "127.0.0.1", 0, process_request=refuse, close_timeout=0.2) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        port = running.socket.getsockname()[1]
        yield Target(f"ws://127.0.0.1:{port}/ws/energy", "a.b.c", seconds=seconds)
        running.shutdown()
        thread.join()
