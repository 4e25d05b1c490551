"""A worker's framing and session in memory: bytes of a client in, frames and the end out."""

from __future__ import annotations

import asyncio
import atexit
import zlib
from functools import cache
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from bench.kit.echo import EchoSession, Silent
from bench.kit.wire import SOCKET, Wire
from energyws.auth.verifier import Verifier, mint
from energyws.process.board import Board
from energyws.protocol.frame import CLOSE, split
from energyws.settings import Auth, Limits, Server
from energyws.testing.service import SECRET
from workers.websocket.auth.key_access import KeyAccess
from workers.websocket.clients.context import Context
from workers.websocket.connection import framing as connection
from workers.websocket.connection.framing import Framing
from workers.websocket.connection.upgrade import Upgrade, switching
from workers.websocket.shares import Shares

# Small, so that a fuzzer often exceeds it.
MAX_MESSAGE_BYTES: Final = 1_000
EXTENSION: Final = "permessage-deflate; server_no_context_takeover"
_PRINCIPAL: Final = Verifier(Auth(jwt_secret=SECRET)).verify(
    mint(SECRET, "fuzz", 600, 0, None), {}, now=0
)


class End(NamedTuple):
    """What a client gets: frames as (opcode, payload), and the code of the close; None: open."""

    frames: tuple[tuple[int, bytes], ...]
    code: int | None


class Sessions:
    """Runs streams, each in a session of its own."""

    def __init__(self) -> None:
        self._settings = Server(max_message_bytes=MAX_MESSAGE_BYTES, messages_per_second=1e9)
        silent: Any = Silent()
        tokens: Any = SimpleNamespace()
        board = Board.create()
        row = board.row(0)
        shares = Shares(board.usage(0), row, Limits())
        self._context = Context(
            self._settings, silent, silent, tokens, row, shares, KeyAccess({}, shares, row)
        )
        log: Any = connection.log
        log.error = log.exception = _fault

    def run(self, stream: bytes, cuts: list[int], *, deflate: bool) -> End:
        """What a client gets for this stream, which arrives cut at these places."""
        return _loop().run_until_complete(self._run(stream, cuts, deflate))

    async def _run(self, stream: bytes, cuts: list[int], deflate: bool) -> End:
        extension = EXTENSION if deflate else None
        session = EchoSession(self._context, _PRINCIPAL, "fuzz", None, extension)
        response = switching(None, extension)
        framing = Framing(Upgrade(session, response, "key"), self._settings, SOCKET)
        wire = Wire(framing)
        first, *others = [*cuts, len(stream)]
        framing.begin(stream[:first])
        for begin, end in zip([first, *others], others, strict=False):
            wire.deliver(stream[begin:end])
        sent = wire.received.removeprefix(response.head())
        frames = [_plain(whole[0], payload) for whole, payload in split(sent)]
        code = None
        if frames and frames[-1][0] == CLOSE:
            code = int.from_bytes(frames.pop()[1][:2], "big")
        assert wire.over == (code is not None)
        framing.connection_lost(None)
        return End(tuple(frames), code)


def _fault(message: str, *_: object) -> None:
    """picows has found something wrong, which the scanner should have kept from it."""
    raise AssertionError(message)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """picows wants one that runs; nothing waits for it."""
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def _plain(first: int, payload: bytes) -> tuple[int, bytes]:
    """Opcode and payload of a frame of ours; inflated, if it is compressed."""
    if first & 0x40:
        payload = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
    return first & 0xF, payload
