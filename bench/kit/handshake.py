"""The WebSocket handshake for clients on bare sockets."""

from __future__ import annotations

import base64
import os


def upgrade_request(path: str, *headers: str) -> str:
    """The upgrade request. path: including the query. headers: additional complete lines."""
    return "\r\n".join(
        [
            f"GET {path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            *headers,
            "",
            "",
        ]
    )


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"
