"""HTTP requests and handshakes that are refused, with the status and code of the answer."""

from __future__ import annotations

from typing import Final

KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
TOKEN: Final = "good"
_UPGRADE: Final = {
    "Host": "a",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
    "Authorization": f"Bearer {TOKEN}",
}
BAD, UPGRADE, UNAUTHORIZED = "400 BAD_REQUEST", "426 UPGRADE_REQUIRED", "401 UNAUTHORIZED"


def request(line: str = "GET /health HTTP/1.1", *fields: str, host: bool = True) -> bytes:
    lines = [line, *(["Host: a"] if host else []), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def upgrade(*, path: str = "/ws/energy", extra: str = "", **changed: str | None) -> bytes:
    """A handshake. changed: fields with another value (`_` for `-`), or without one."""
    named = {name.replace("_", "-"): value for name, value in changed.items()}
    fields = {**_UPGRADE, **named}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join(
        [f"GET {path} HTTP/1.1", *lines, *([extra] if extra else []), "", ""]
    ).encode("latin-1")


HTTP: Final[dict[str, tuple[bytes, str]]] = {
    # The request line (RFC 9112 section 3).
    **{
        f"line {line!r}": (request(line), BAD)
        for line in (
            *("GET /health", "GET /health HTTP", "GET /health HTTP/1", "GET /health HTTP/1.1 "),
            *("GET  /health HTTP/1.1", "GET\t/health HTTP/1.1", " GET /health HTTP/1.1"),
            *("GET /health HTTP/1.1 x", "GET /health http/1.1", "GET /health HTTP/1.10"),
            *("GET /health HTTP/11", "GET /health\x00 HTTP/1.1", "GET /heal\x7fth HTTP/1.1"),
            *("GET /h\xe9 HTTP/1.1", "GET /h\x1b[2J HTTP/1.1", "GET / health HTTP/1.1"),
            *("G(T /health HTTP/1.1", "GET health HTTP/1.1", "GET /health#x HTTP/1.1"),
            *("GET ftp://a/health HTTP/1.1", "GET //a HTTP/1.1x", "GET * HTTP/1.1"),
            *("/health", "HTTP/1.1 200 OK", "\x16\x03\x01\x02\x00\x01\x00"),
        )
    },
    **{
        f"version {version}": (request(f"GET /health HTTP/{version}"), "505 VERSION_NOT_SUPPORTED")
        for version in ("0.9", "1.2", "1.9", "2.0", "3.0", "9.9")
    },
    **{
        f"method {method}": (request(f"{method} /health HTTP/1.1"), "501 NOT_IMPLEMENTED")
        for method in ("get", "FOO", "PRI", "PROPFIND", "GETGET", "X-Y", "M" * 30)
    },
    **{
        f"{method} of {path}": (request(f"{method} {path} HTTP/1.1"), "405 METHOD_NOT_ALLOWED")
        for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS")
        for path in ("/health", "/ws/energy")
    },
    **{
        f"path {path}": (request(f"GET {path} HTTP/1.1"), "404 NOT_FOUND")
        for path in (
            *("/", "/Health", "/health/", "//health", "/./health", "/%68ealth", "/health;x"),
            *("/ws", "/ws/energy/", "/WS/energy", "/ws/../health", "/favicon.ico", "/.env"),
        )
    },
    # Fields (sections 5 and 3.2).
    **{
        f"field {field!r}": (request("GET /health HTTP/1.1", field), BAD)
        for field in (
            *("X y: z", "X : y", " X: y", "no colon", ": y", "X\x00: y", "X: a\x00b"),
            *("X: a\nY: b", "X: a\rY: b", "X(y): z", "X\t: y", "\xe9: y"),
        )
    },
    "folded field": (request("GET /health HTTP/1.1", "X: a", " b"), BAD),
    "folded with a tab": (request("GET /health HTTP/1.1", "X: a", "\tb"), BAD),
    "no Host": (request(host=False), BAD),
    "two Hosts": (request("GET /health HTTP/1.1", "Host: b"), BAD),
    "the same Host twice": (request("GET /health HTTP/1.1", "Host: a"), BAD),
    **{
        f"Host {host!r}": (request("GET /health HTTP/1.1", f"Host: {host}", host=False), BAD)
        for host in ("a b", "a/b", "a:b", "a@b", "http://a", "[::1", "a\\b", "a:1:2", "<a>")
    },
    # Framing (section 6): smuggling.
    "length and encoding": (
        request("GET /health HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: chunked"),
        BAD,
    ),
    "two lengths": (request("GET /health HTTP/1.1", "Content-Length: 3", "Content-Length: 4"), BAD),
    **{
        f"Content-Length {length!r}": (
            request("GET /health HTTP/1.1", f"Content-Length: {length}"),
            BAD,
        )
        for length in ("-1", "+3", "3x", "0x3", "3, 4", "1e3", "9" * 30)
    },
    # Limits.
    "target of 13,000 bytes": (request(f"GET /{'x' * 13_000} HTTP/1.1"), "414 URI_TOO_LONG"),
    "line without an end": (b"GET /" + b"x" * 13_000, "414 URI_TOO_LONG"),
    "101 fields": (
        request("GET /health HTTP/1.1", *[f"X-{n}: y" for n in range(100)]),
        "431 HEADERS_TOO_LARGE",
    ),
    "field of 16 KiB": (
        request("GET /health HTTP/1.1", f"X: {'y' * 16_384}"),
        "431 HEADERS_TOO_LARGE",
    ),
    "fields without an end": (
        request()[:-2] + b"X: y\r\n" * 3_000,
        "431 HEADERS_TOO_LARGE",
    ),
    # Other protocols.
    "PROXY protocol 1": (b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n" + request(), BAD),
    "PROXY protocol 2": (b"\r\n\r\n\x00\r\nQUIT\n" + bytes(12), BAD),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 VERSION_NOT_SUPPORTED"),
    "line feeds only": (request().replace(b"\r\n", b"\n"), BAD),
    "SSH": (b"SSH-2.0-OpenSSH_9.9\r\n", BAD),
    "SMTP": (b"EHLO a\r\n", BAD),
    "nothing but NUL": (bytes(20), BAD),
}

_OTHER_KEYS: Final = {
    "empty": "",
    "15 bytes": "AAAAAAAAAAAAAAAAAAAA",
    "17 bytes": "AAAAAAAAAAAAAAAAAAAAAAA=",
    "no base64": "!" * 24,
    "of base64url": "-_-_-_-_-_-_-_-_-_-_-w==",
    "without padding": KEY.rstrip("="),
    "with blanks": f"{KEY[:8]} {KEY[8:]}",
    "with more behind": f"{KEY}AAAA",
}
HANDSHAKES: Final[dict[str, tuple[bytes, str]]] = {
    **{f"key {name}": (upgrade(Sec_WebSocket_Key=key), BAD) for name, key in _OTHER_KEYS.items()},
    "no key": (upgrade(Sec_WebSocket_Key=None), BAD),
    **{
        f"two {name}": (upgrade(extra=f"{name}: {value}"), BAD)
        for name, value in {
            "Sec-WebSocket-Key": KEY,
            "Sec-WebSocket-Version": "13",
            "sec-websocket-version": "8",
            "Host": "a",
        }.items()
    },
    "two origins": (upgrade(Origin="https://a", extra="Origin: https://b"), BAD),
    **{
        f"version {version!r}": (upgrade(Sec_WebSocket_Version=version), UPGRADE)
        for version in (None, "", "0", "7", "8", "12", "14", "13, 8", "013", "13.0", "x", "-13")
    },
    **{
        f"Upgrade {value!r}": (upgrade(Upgrade=value), UPGRADE)
        for value in (None, "", "h2c", "web socket", "websockets", "websocket/13")
    },
    **{
        f"Connection {value!r}": (upgrade(Connection=value), UPGRADE)
        for value in (None, "", "keep-alive", "close", "upgrades")
    },
    "HTTP/1.0": (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), UPGRADE),
    "POST": (upgrade().replace(b"GET", b"POST", 1), "405 METHOD_NOT_ALLOWED"),
    "with a body": (upgrade(extra="Content-Length: 5"), BAD),
    "with a chunked body": (upgrade(extra="Transfer-Encoding: chunked"), BAD),
    **{
        f"extensions {offer!r}": (upgrade(Sec_WebSocket_Extensions=offer), BAD)
        for offer in (
            *("permessage-deflate; =1", "permessage-deflate; a=", "permessage-deflate; ;"),
            *('x; a="b', 'x; a=""', "x y", "x; a b", "x; a=b c", ";", "@", 'x; a="b;c"', "x;;y"),
        )
    },
    **{
        f"Authorization {value!r}": (upgrade(Authorization=value), UNAUTHORIZED)
        for value in (None, "", "Bearer", "Bearer ", "Bearer bad", "Basic Z29vZA==", "good")
    },
    "token in the wrong query": (
        upgrade(path="/ws/energy?jwt=good", Authorization=None),
        UNAUTHORIZED,
    ),
    "token in another case": (
        upgrade(path="/ws/energy?Token=good", Authorization=None),
        UNAUTHORIZED,
    ),
    "token in a cookie": (upgrade(Authorization=None, Cookie="token=good"), UNAUTHORIZED),
}
