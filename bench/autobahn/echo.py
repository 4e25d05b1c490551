"""A worker's listener, gate and sessions, which echo messages instead of understanding them.

    python -m bench.autobahn.echo '{"settings": {"compression": true}, "fragments": 64}'

It prints its port, and ends when its stdin does. Clients need a token of `energyws.testing`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import orjson
import uvloop

from bench.kit.echo import EchoSession, Silent
from energyws.process.board import Board
from energyws.protocol import frame_scanner
from energyws.protocol.http.client_address import TrustedProxies
from energyws.settings import Auth, Limits, Server, Tls
from energyws.testing.service import SECRET
from workers.websocket.accept import handshake
from workers.websocket.accept.arrivals import Arrivals
from workers.websocket.accept.handshake import Gate, max_descriptor
from workers.websocket.accept.listener import Listener
from workers.websocket.accept.tls_context import tls_context
from workers.websocket.auth.key_access import KeyAccess
from workers.websocket.auth.tokens import Tokens
from workers.websocket.clients.connections import ConnectionRegistry
from workers.websocket.clients.context import Context
from workers.websocket.shares import Shares


async def serve(options: dict[str, Any]) -> None:
    tls = options["settings"].pop("tls", None)
    settings = Server(**options["settings"], tls=None if tls is None else Tls(**tls))
    frame_scanner.MAX_FRAGMENTS = options["fragments"]  # type: ignore[misc]
    handshake.Session = EchoSession  # type: ignore[attr-defined]
    auth = Auth(jwt_secret=SECRET)
    board = Board.create()
    row = board.row(0)
    # Where the workers of a service share keys of issuers, of which there are none here.
    tokens = Tokens(auth, row, Path(tempfile.gettempdir()), lambda: None)
    connections = ConnectionRegistry(settings, auth)
    hub = cast(Any, Silent())
    shares = Shares(board.usage(0), row, Limits())
    context = Context(settings, hub, connections, tokens, row, shares, KeyAccess({}, shares, row))
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        listener = Listener(
            listening,
            settings,
            None if settings.tls is None else tls_context(settings.tls),
            Gate(context, auth, board),
            max_descriptor(),
            row,
            Arrivals(shares, board, settings, TrustedProxies(())),
        )
        listener.start()
        print(listening.getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        listener.close()
    connections.close()
    tokens.close()


if __name__ == "__main__":
    uvloop.run(serve(orjson.loads(sys.argv[1])))
