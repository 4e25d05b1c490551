"""What all sessions of a worker share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from energyws.process.board import Row
from energyws.settings import Server
from workers.websocket.auth.key_access import KeyAccess
from workers.websocket.auth.tokens import Tokens
from workers.websocket.clients.connections import ConnectionRegistry
from workers.websocket.fanout.hub import Hub
from workers.websocket.shares import Shares


@dataclass(slots=True)
class Context:
    """A reload replaces `settings`; the rest stays.

    reading: the subjects whose requests for history are being answered, and how many of each.
    refused: the clients that were refused as WebSockets and are closing.
    worker: the slot and process id that clients may learn; None: they may not.
    """

    settings: Server
    hub: Hub
    connections: ConnectionRegistry
    tokens: Tokens
    row: Row
    shares: Shares
    keys: KeyAccess
    reading: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    worker: Mapping[str, int] | None = None
