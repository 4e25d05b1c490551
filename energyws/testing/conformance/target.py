"""The server that is judged: how to reach it, and what it supports."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson

from energyws.testing.conformance.wire import Wire, accept, key

# It is no JWT, so no server can take it for a valid token.
WRONG_TOKEN: Final = "header.payload.signature"
HEALTH: Final = "/health"


class Fault(Exception):
    """The other side did not do what it must."""


@dataclass(frozen=True, slots=True)
class Target:
    """url: of the WebSocket, without a query. seconds: how long it may take for one step."""

    url: str
    token: str = field(repr=False)
    stream: str = "energy"
    seconds: float = 10.0
    context: ssl.SSLContext | None = None

    @property
    def is_secure(self) -> bool:
        """Whether the URL is wss://."""
        return self.url.startswith("wss:")

    def deadline(self) -> float:
        """The end of a step that begins now, as time.monotonic."""
        return time.monotonic() + self.seconds

    def credentials(self, kind: str) -> tuple[dict[str, str], str]:
        """Header fields and query with the token: in a header, subprotocol or query, or none."""
        match kind:
            case "header":
                return {"Authorization": f"Bearer {self.token}"}, ""
            case "wrong":
                return {"Authorization": f"Bearer {WRONG_TOKEN}"}, ""
            case "subprotocol":
                return {"Sec-WebSocket-Protocol": f"energyws, bearer.{self.token}"}, ""
            case "query":
                return {}, f"token={quote(self.token)}"
            case "none":
                return {}, ""
        raise AssertionError(kind)

    def open(self, query: str, headers: dict[str, str]) -> tuple[Wire, int, dict[str, str]]:
        """The connection after a handshake, with status and header fields of the answer."""
        parts, sent_key = urlsplit(self.url), key()
        assert parts.hostname is not None
        port = parts.port or (443 if self.is_secure else 80)
        connection = socket.create_connection((parts.hostname, port), self.seconds)
        if self.is_secure:
            context = self.context or ssl.create_default_context()
            connection = context.wrap_socket(connection, server_hostname=parts.hostname)
        wire = Wire(connection, masks=True)
        fields = {
            "Host": parts.netloc.rpartition("@")[2],
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": sent_key,
            **headers,
        }
        lines = [f"{name}: {value}" for name, value in fields.items()]
        path = f"{parts.path}?{query}" if query else parts.path
        try:
            wire.write("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
            first, answer = wire.head(self.deadline())
            status = _status(first)
            if status == 101 and answer.get("sec-websocket-accept") != accept(sent_key):
                text = "Sec-WebSocket-Accept does not answer the key (RFC 6455, section 4.2.2)"
                raise Fault(text)
        except (Fault, OSError):
            wire.shut()
            raise
        return wire, status, answer

    def request(self, method: str, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """The answer to a request on the WebSocket's port; its body is yet to be read."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        connection: http.client.HTTPConnection
        if self.is_secure:
            connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self.seconds, context=self.context
            )
        else:
            connection = http.client.HTTPConnection(
                parts.hostname, parts.port, timeout=self.seconds
            )
        try:
            connection.request(method, path, headers={"Connection": "close", **headers})
            return connection.getresponse()
        except http.client.HTTPException as error:
            connection.close()
            raise Fault(f"the answer is not HTTP: {error!r}") from None
        except OSError:
            connection.close()
            raise


def _status(line: str) -> int:
    version, _, rest = line.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise Fault("the answer to the handshake is not HTTP")
    return int(rest[:3])


def json_of(payload: bytes) -> dict[str, Any]:
    """The object in a message of the server."""
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise Fault(f"a message is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise Fault(f"a message is no object: {payload[:40]!r}")
    return message


def events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of a stream, each with its data as JSON (WHATWG HTML, section 9.2.6).

    `retry`, which a stream may send at any time, is in every event after it.
    """
    found: dict[str, Any] = {}
    retry: dict[str, str] = {}
    while line := response.readline():
        name, _, value = line.decode(errors="replace").rstrip("\r\n").partition(":")
        if name == "data":
            found["data"] = json_of(value.encode())
        elif name == "retry":
            retry = {name: value.strip()}
        elif name in ("id", "event"):
            found[name] = value.strip()
        elif not name and not value:
            if "data" in found:
                yield found | retry
            found = {}


def features(target: Target) -> dict[str, str]:
    """What the server does not support, each with the reason. Raises Fault and OSError."""
    missing = {}
    header, _ = target.credentials("header")
    wire, status, _ = target.open("", header)
    if status != 101:
        wire.shut()
        what = "the token is refused" if status in (401, 403) else "no connection"
        raise Fault(f"{what}: the handshake is answered with {status}")
    found, has_keys = 0, False
    try:
        subscribe = {"type": "subscribe", "streams": [target.stream], "last": 2}
        wire.message(orjson.dumps(subscribe))
        deadline = target.deadline()
        while found < 2:
            event = wire.receive(deadline)
            if event.kind != "message":
                raise Fault("the server ends the connection after `subscribe`")
            message = json_of(event.payload)
            found += message.get("type") == "data"
            has_keys = has_keys or "key" in message
            if message.get("type") == "error":
                raise Fault(f"no stream {target.stream!r} for this token: {message.get('code')}")
    except TimeoutError:
        missing["records"] = f"the stream {target.stream} has {found} records, and 2 are needed"
    finally:
        wire.shut()
    if not has_keys:
        missing["keys"] = f"the newest records of the stream {target.stream} have no key"
    for feature, path in (
        ("sse", f"/sse/{target.stream}"),
        ("last", f"/last/{target.stream}"),
        ("history", f"/history/{target.stream}?last=1"),
    ):
        response = target.request("GET", path, header)
        if response.status == 404:
            missing[feature] = f"the server has no /{feature}"
        response.close()
    return missing
