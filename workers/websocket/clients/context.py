"""What all sessions of a worker share."""

from __future__ import annotations

from dataclasses import dataclass

from energyws.process.board import Row
from energyws.settings import Server
from workers.websocket.auth.tokens import Tokens
from workers.websocket.clients.connections import ConnectionRegistry
from workers.websocket.fanout.hub import Hub


@dataclass(slots=True)
class Context:
    """A reload replaces `settings`; the rest stays."""

    settings: Server
    hub: Hub
    connections: ConnectionRegistry
    tokens: Tokens
    row: Row
