"""The shared 101 response, and the empty response that picows gets instead."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from picows import WSListener

from energyws.errors import RESTART
from workers.websocket.connection.upgrade import Upgrade, forget, head, send_close, switching


def upgraded(key: str, subprotocol: str | None = None, extension: str | None = None) -> bytes:
    """The 101 for a request with this key, as its session writes it."""
    upgrade = Upgrade(WSListener(), switching(subprotocol, extension), key)
    transport: Any = SimpleNamespace(response=upgrade.response)
    request: Any = None
    made = upgrade.begin(request)
    assert (made.response, made.listener) == (upgrade.response, upgrade.listener)
    return head(transport)


def test_accept_value_is_that_of_the_key() -> None:
    # RFC 6455 section 1.3.
    assert upgraded("dGhlIHNhbXBsZSBub25jZQ==").splitlines() == [
        b"HTTP/1.1 101 Switching Protocols",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        b"",
    ]


@pytest.mark.parametrize("subprotocol", [None, "energyws"])
@pytest.mark.parametrize("extension", [None, "permessage-deflate"])
def test_101_has_only_the_negotiated_headers(
    subprotocol: str | None, extension: str | None
) -> None:
    lines = upgraded("key", subprotocol, extension).decode().split("\r\n")
    assert (f"Sec-WebSocket-Protocol: {subprotocol}" in lines) is (subprotocol is not None)
    assert (f"Sec-WebSocket-Extensions: {extension}" in lines) is (extension is not None)
    assert len(lines) == 6 + (subprotocol is not None) + (extension is not None)


def test_connections_share_a_response_but_not_the_accept_value() -> None:
    assert switching("energyws", None) is switching("energyws", None)
    assert upgraded("one") != upgraded("other")
    assert upgraded("one") == upgraded("one")


def test_picows_does_not_write_the_101() -> None:
    assert switching(None, None).to_bytes() == b""


def test_forget_clears_the_request() -> None:
    request: Any = SimpleNamespace(headers={}, method=b"", path=b"", version=b"")
    forget(request)
    assert vars(request) == {}


def test_close_has_its_code_and_reason() -> None:
    sent: list[tuple[int, str]] = []
    transport: Any = SimpleNamespace(send_close=lambda code, reason: sent.append((code, reason)))
    send_close(transport, RESTART)
    assert sent == [(1012, "service restart")]
