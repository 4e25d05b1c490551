"""The connection of an answer, as a record of what was written to it."""

from __future__ import annotations

from typing import Any, cast

import orjson

from workers.websocket.connection.accepted import AcceptedSocket


class Outlet:
    """over: how the answer ended: answered, failed or aborted."""

    def __init__(self) -> None:
        self.data = b""
        self.connection = cast(AcceptedSocket, None)
        self.limits: tuple[int, int] | None = None
        self.over: list[str] = []

    def write(self, data: bytes) -> None:
        self.data += data

    def set_write_buffer_limits(self, *, high: int, low: int) -> None:
        self.limits = high, low

    def answered(self, *, failed: bool) -> None:
        self.over.append("failed" if failed else "answered")

    def abort(self) -> None:
        self.over.append("aborted")

    @property
    def head(self) -> str:
        return self.data.partition(b"\r\n\r\n")[0].decode()

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]

    def lines(self, *, chunked: bool = True) -> list[dict[str, Any]]:
        """The body as lines of JSON."""
        body = self.body
        if chunked:
            body, rest = b"", body
            while True:
                size, _, rest = rest.partition(b"\r\n")
                if not int(size, 16):
                    assert rest == b"\r\n"
                    break
                body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return [orjson.loads(line) for line in body.splitlines()]
