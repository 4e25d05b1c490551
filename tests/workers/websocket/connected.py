"""A connection on the loopback interface."""

from __future__ import annotations

import socket

from workers.websocket.connection.accepted import AcceptedSocket, accept


def connected(receive_buffer: int | None = None) -> tuple[AcceptedSocket, socket.socket]:
    """An accepted connection, and its client; receive_buffer: the client's, in bytes."""
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client.connect(listening.getsockname())
        connection, peer = accept(listening, int(listening.family))
    assert peer == "127.0.0.1"
    return connection, client
