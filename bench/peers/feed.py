"""Shared by the Python peers: options, the feed, and printing of ports.

    python -m bench.peers.NAME_server [CERT KEY]

A peer listens on two ports: one for clients and one for the feeder, which sends one JSON message
per line. The peer sends each line to every client as a text message, and runs until terminated.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Awaitable, Callable, Coroutine

import orjson
import uvloop

READY = '{"type":"subscribed"}'
# Enough for thousands of clients that connect together.
BACKLOG = 4096
_LINE_BYTES = 1 << 20

Broadcast = Callable[[str], Awaitable[None]]


def tls() -> ssl.SSLContext | None:
    """The context for the certificate and key on the command line, if given."""
    if len(sys.argv) < 3:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    return context


async def feed(port: int, broadcast: Broadcast) -> None:
    """Print the ports for clients and feeder; then send each line of the feeder to all clients."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await broadcast(line[:-1].decode())
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0, limit=_LINE_BYTES)
    ports = {"port": port, "feed": server.sockets[0].getsockname()[1]}
    sys.stdout.write(orjson.dumps(ports).decode() + "\n")
    sys.stdout.flush()
    await server.serve_forever()


def run(main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a peer on uvloop."""
    uvloop.run(main())
