"""Requests for clients on bare sockets."""

from __future__ import annotations

import base64
import os


def get_request(path: str, *headers: str) -> str:
    """path: including the query. headers: additional complete lines."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""])


def upgrade_request(path: str, *headers: str) -> str:
    """The same that asks for a WebSocket."""
    return get_request(
        path,
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        *headers,
    )


def events_request(path: str, *headers: str) -> str:
    """The same that asks for Server-Sent Events."""
    return get_request(path, "Accept: text/event-stream", *headers)


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"
