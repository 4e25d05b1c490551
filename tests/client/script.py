"""A scripted server on an independent WebSocket library."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Self

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from energyws.client import Client, Message, Reading

# One connection of the script, given the client's `subscribe` message.
Scene = Callable[[ServerConnection, dict[str, Any]], None]


class Script:
    """A server that plays one scene per connection, and repeats the last one."""

    def __init__(
        self,
        *scenes: Scene,
        refuse: list[tuple[int, bytes]] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._scenes = list(scenes)
        self._refuse = refuse or []
        self.requests: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self.times: list[float] = []
        self._server: Server = serve(
            self._play, "127.0.0.1", 0, process_request=self._decide, close_timeout=1, ssl=tls
        )
        scheme = "wss" if tls else "ws"
        self.url = f"{scheme}://127.0.0.1:{self._server.socket.getsockname()[1]}/ws/energy"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def _decide(self, connection: ServerConnection, request: Request) -> Response | None:
        self.tokens.append(request.headers.get("Authorization"))
        self.times.append(time.monotonic())
        if not self._refuse:
            return None
        status, body = self._refuse.pop(0)
        return connection.respond(HTTPStatus(status), body.decode())

    def _play(self, connection: ServerConnection) -> None:
        scene = self._scenes.pop(0) if len(self._scenes) > 1 else self._scenes[0]
        try:
            request = orjson.loads(connection.recv())
            self.requests.append(request)
            scene(connection, request)
        except ConnectionClosed:
            pass


def say(connection: ServerConnection, **message: object) -> None:
    connection.send(orjson.dumps(message).decode())


def subscribed(connection: ServerConnection, position: str, **fields: object) -> None:
    say(
        connection,
        type="subscribed",
        streams=["energy"],
        positions={"energy": {"position": position, **fields}},
    )


def data(connection: ServerConnection, number: int, position: str) -> None:
    say(
        connection,
        type="data",
        stream="energy",
        timestamp="2026-01-01T00:00:00.000Z",
        data={"n": number},
        id=position,
    )


def wait(connection: ServerConnection, request: dict[str, Any]) -> None:
    """Keep the connection until the client ends it."""
    while True:
        connection.recv()


def one_reading(connection: ServerConnection, request: dict[str, Any]) -> None:
    """Subscribe the client and send a single reading, number 1."""
    subscribed(connection, "aa-0")
    data(connection, 1, "aa-1")
    wait(connection, request)


def collect(client: Client, count: int) -> list[Message]:
    """The first `count` messages from the client."""

    async def main() -> list[Message]:
        found: list[Message] = []
        async with aclosing(client.messages()) as messages:
            async for message in messages:
                found.append(message)
                if len(found) == count:
                    break
        return found

    return asyncio.run(asyncio.wait_for(main(), 20))


def numbers(messages: list[Message]) -> list[object]:
    return [message.data["n"] for message in messages if isinstance(message, Reading)]
