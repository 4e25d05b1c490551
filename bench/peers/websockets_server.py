"""`websockets`: its asyncio server and `broadcast()`, as its guide to broadcasting recommends."""

from __future__ import annotations

from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.peers import feed

_connections: set[ServerConnection] = set()


async def _handle(connection: ServerConnection) -> None:
    _connections.add(connection)
    try:
        await connection.send(feed.READY)
        await connection.wait_closed()
    finally:
        _connections.discard(connection)


async def _broadcast(message: str) -> None:
    broadcast(_connections, message)


async def _main() -> None:
    # Its guide warns against compressing for every client.
    async with serve(
        _handle, "127.0.0.1", 0, ssl=feed.tls(), compression=None, backlog=feed.BACKLOG
    ) as server:
        await feed.feed(next(iter(server.sockets)).getsockname()[1], _broadcast)


if __name__ == "__main__":
    feed.run(_main)
