"""Starlette on uvicorn: a set of connections and `send_text` to each in turn.

This is the ConnectionManager of the documentation of FastAPI, which is built on Starlette; uvloop
and httptools are those that `uvicorn[standard]` installs.
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from bench.peers import feed

_connections: set[WebSocket] = set()


async def _handle(websocket: WebSocket) -> None:
    await websocket.accept()
    _connections.add(websocket)
    try:
        await websocket.send_text(feed.READY)
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        _connections.discard(websocket)


async def _broadcast(message: str) -> None:
    for websocket in list(_connections):
        # A client may leave during the loop.
        try:
            await websocket.send_text(message)
        except (WebSocketDisconnect, RuntimeError):
            _connections.discard(websocket)


async def _main() -> None:
    cert, key = sys.argv[1:3] if feed.tls() else (None, None)
    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=[WebSocketRoute("/{path:path}", _handle)]),
            host="127.0.0.1",
            port=0,
            http="httptools",
            ws_per_message_deflate=False,
            access_log=False,
            log_level="warning",
            backlog=feed.BACKLOG,
            ssl_certfile=cert,
            ssl_keyfile=key,
        )
    )
    serving = asyncio.create_task(server.serve())
    # uvicorn has no event for this.
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    feeding = asyncio.create_task(feed.feed(port, _broadcast))
    # uvicorn handles SIGTERM itself and then returns.
    await serving
    feeding.cancel()


if __name__ == "__main__":
    feed.run(_main)
