"""Reads a ZeroMQ socket from the event loop.

ZeroMQ's descriptor is edge-triggered (zmq_getsockopt ZMQ_FD): once it is readable, the reader must
read until there is nothing (EAGAIN), or come back by itself. A bounded number of messages per
turn keeps the loop fair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

import zmq

from workers.runtime import crash_on_error

MESSAGES_PER_TURN: Final = 256
# A plain integer: an IntFlag costs as much as receiving a message.
_NOBLOCK: Final = int(zmq.NOBLOCK)


class SocketReader:
    """Calls `receive` with the parts of each message, MESSAGES_PER_TURN at most in one turn.

    multipart: whether a message may have more than one part; asking costs more than receiving.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        socket: zmq.Socket[bytes],
        receive: Callable[[list[bytes]], None],
        *,
        multipart: bool = True,
    ) -> None:
        self._loop = loop
        self._socket = socket
        self._receive = receive
        self._multipart = multipart
        self._handle: asyncio.Handle | None = None
        loop.add_reader(socket.fileno(), self.drain)
        # Messages that came before the reader was attached make no further edge.
        self._schedule()

    @crash_on_error
    def drain(self) -> None:
        """Read what has arrived; come back in the next turn if there may be more."""
        receive, multipart = self._socket.recv, self._multipart
        option = cast("Callable[[int], int]", self._socket.getsockopt)
        for _ in range(MESSAGES_PER_TURN):
            try:
                # The exception at the end costs as much as asking ZMQ_EVENTS twice: before the
                # first message, and whether there is a second.
                parts = [receive(_NOBLOCK)]
            except zmq.Again:
                return
            while multipart and option(zmq.RCVMORE):
                parts.append(receive(_NOBLOCK))
            self._receive(parts)
        self._schedule()

    def after_send(self) -> None:
        """Call this after each send on the same socket: it may swallow the edge of an arrival."""
        self._schedule()

    def close(self) -> None:
        """Stop reading; the socket is closed by its owner."""
        self._loop.remove_reader(self._socket.fileno())
        if self._handle is not None:
            self._handle.cancel()

    def _schedule(self) -> None:
        if self._handle is None:
            self._handle = self._loop.call_soon(self._on_turn)

    @crash_on_error
    def _on_turn(self) -> None:
        self._handle = None
        self.drain()
