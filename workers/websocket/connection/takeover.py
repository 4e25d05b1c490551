"""What becomes of a connection after its last request: a WebSocket, or a stream of events."""

from __future__ import annotations

from energyws.settings import Server
from workers.websocket.connection.accepted import AcceptedSocket
from workers.websocket.connection.framing import Framing
from workers.websocket.connection.stream import Stream
from workers.websocket.connection.upgrade import Upgrade


def protocol(
    taker: Upgrade | Stream, settings: Server, connection: AcceptedSocket
) -> Framing | Stream:
    """The protocol for the connection's transport.

    Once the transport has started, `begin` is called with the bytes that came after the request.
    """
    connection.limit_buffers(settings.send_buffer_bytes)
    if isinstance(taker, Upgrade):
        return Framing(taker, settings, connection)
    taker.connection = connection
    return taker
