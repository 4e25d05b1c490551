"""Sockets of bounded room, aiofastnet's transport over them, and what a client makes of its bytes.

Only what the order of bytes depends on: a transport tries the socket first and keeps the rest;
closes once that is out, or drops it; and its descriptor is closed an iteration of the event loop
later, after its protocol has been told.
"""

from __future__ import annotations

import errno
import os
import random
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import orjson

from energyws.protocol.deflate import inflate
from energyws.protocol.forms import Form
from energyws.protocol.position import parse
from tests.clients import first_frame
from workers.websocket.connection.upgrade import switching


class Loop:
    """An event loop that a test runs, callback by callback."""

    def __init__(self) -> None:
        self.ready: deque[Callable[[], object]] = deque()

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        self.ready.append(lambda: callback(*arguments))

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Any:
        """Nothing here waits: a turn after a rest may come at once as well."""
        handle = SimpleNamespace(cancelled=False)
        handle.cancel = lambda: setattr(handle, "cancelled", True)
        self.ready.append(lambda: None if handle.cancelled else callback(*arguments))
        return handle

    def run(self, most: int) -> None:
        for _ in range(min(most, len(self.ready))):
            self.ready.popleft()()


class Socket:
    """taken: every byte that it took. fails: the errors of the next sends; reset: of all.

    eager: how likely the client is to read everything right after the socket was full.
    """

    def __init__(self, descriptor: int, room: int, eager: float = 0.2) -> None:
        self.descriptor = descriptor
        self.eager = eager
        self.taken = bytearray()
        self.read = 0
        self.fails: deque[int] = deque()
        self.reset = False
        self.closed = False
        self._room = room

    @property
    def room(self) -> int:
        return max(0, self._room - (len(self.taken) - self.read))

    def send(self, data: bytes) -> int:
        """How many bytes it took, or the number of an error, negative."""
        assert not self.closed
        if self.reset:
            return -errno.EPIPE
        if self.fails:
            return -self.fails.popleft()
        taken = data[: self.room]
        self.taken += taken
        if len(taken) < len(data) and random.random() < self.eager:
            self.read = len(self.taken)
        return len(taken) or -errno.EAGAIN

    def fileno(self) -> int:
        return -1 if self.closed else self.descriptor


class Sockets:
    """By descriptor; a new one gets the lowest free number."""

    def __init__(self) -> None:
        self.open: dict[int, Socket] = {}

    def new(self, room: int) -> Socket:
        descriptor = next(n for n in range(3, 1_000) if n not in self.open)
        self.open[descriptor] = made = Socket(descriptor, room)
        return made

    def close(self, socket: Socket) -> None:
        socket.closed = True
        del self.open[socket.descriptor]

    def send(self, descriptor: int, data: bytes) -> int:
        socket = self.open.get(descriptor)
        return -errno.EBADF if socket is None else socket.send(data)


class Transport:
    """aiofastnet's SelectorSocketTransport."""

    def __init__(self, loop: Loop, sockets: Sockets, socket: Socket, protocol: Any) -> None:
        self.socket = socket
        self.closing = False
        self.read_paused = False
        self.waits_for_room = False
        self._finalizing = False
        self._paused = False
        self._held = b""
        self._high, self._low = 65_536, 16_384
        self._loop = loop
        self._sockets = sockets
        self._protocol = protocol

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self._high, self._low = high, low

    def get_write_buffer_size(self) -> int:
        return len(self._held)

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def get_extra_info(self, name: str) -> Socket:
        assert name == "socket"
        return self.socket

    def get_protocol(self) -> Any:
        return self._protocol

    def pause_reading(self) -> None:
        self.read_paused = True

    def resume_reading(self) -> None:
        self.read_paused = self.closing

    def write_nocheck(self, data: bytes) -> None:
        if self._finalizing or not data:
            return
        try:
            rest = data if self._held else self._try(data)
        except OSError:
            self.abort()
            return
        if rest:
            self._held += rest
            self.waits_for_room = True
            if len(self._held) > self._high and not self._paused:
                self._paused = True
                self._protocol.pause_writing()

    write = write_nocheck

    def on_room(self) -> None:
        """The event loop found that the socket can be written to."""
        if self._finalizing:
            return
        try:
            self._held = self._try(self._held)
        except OSError:
            self.abort()
        if self._paused and len(self._held) <= self._low:
            self._paused = False
            self._protocol.resume_writing()
        if not self._held:
            self.waits_for_room = False
            if self.closing and not self._finalizing:
                self._finalize_soon()

    def close(self) -> None:
        if not self.closing:
            self.closing = self.read_paused = True
            if not self._held:
                self._finalize_soon()

    def abort(self) -> None:
        if not self._finalizing:
            self.closing = self.read_paused = True
            self.waits_for_room = False
            self._held = b""
            self._finalize_soon()

    def _try(self, data: bytes) -> bytes:
        """Raises OSError; returns what the socket did not take."""
        result = self.socket.send(data)
        if result < 0 and result != -errno.EAGAIN:
            raise OSError(-result, os.strerror(-result))
        return data[max(result, 0) :]

    def _finalize_soon(self) -> None:
        self._finalizing = True
        self._loop.call_soon(self._finalize)

    def _finalize(self) -> None:
        try:
            self._protocol.connection_lost(None)
        finally:
            self._sockets.close(self.socket)


class WebSocket:
    """picows' protocol and transport of one session."""

    is_secure = False

    def __init__(self, session: Any, name: str, extension: str | None) -> None:
        self.session = session
        self.connection = None
        self.underlying_transport: Any = None
        self.request = SimpleNamespace(headers={}, method="", path="", version="")
        # One object of each connection's own, since its head is taken at once.
        self.response = switching(None, extension)
        self.response.accept = name
        self.is_close_frame_sent = False
        self.close_handshake = SimpleNamespace(sent=None)

    def send_close(self, code: int, reason: str) -> None:
        if not self.is_close_frame_sent:
            self.is_close_frame_sent = True
            payload = code.to_bytes(2, "big") + reason.encode()
            self.underlying_transport.write(bytes((0x88, len(payload))) + payload)

    def end(self) -> None:
        self.underlying_transport.close()

    def disconnect(self, graceful: bool) -> None:
        assert not graceful
        self.underlying_transport.abort()

    def pause_writing(self) -> None:
        self.session.pause_writing()

    def resume_writing(self) -> None:
        self.session.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.session.on_ws_disconnected(self)


class Reader:
    """What a client makes of the bytes that it gets; an assertion fails for what it must not get.

    wanted: the keys that it gets, of records whose key ends with their number modulo 6; None: all.
    next: by stream that it is subscribed to, the number of the next record. rest: bytes that are
    not a whole message yet.
    """

    def __init__(self, form: Form, name: str, wanted: tuple[str, ...] | None = None) -> None:
        self.next: dict[str, int] = {}
        self.rest = b""
        self.records = self.positions = 0
        self._wanted = None if wanted is None else {int(key[-1]) for key in wanted}
        self._form = form
        self._name = name
        self._begun = self._closed = False

    def feed(self, data: bytes) -> None:
        """The next bytes of a connection."""
        self.rest += data
        if not self._begun:
            head, end, rest = self.rest.partition(b"\r\n\r\n")
            if not end:
                return
            assert self._form is Form.SSE or self._name.encode() in head
            self._begun, self.rest = True, rest
        take = self._take_event if self._form is Form.SSE else self._take_frame
        while self.rest and (after := take(self.rest)) is not None:
            self.rest = after

    def _take_frame(self, data: bytes) -> bytes | None:
        assert data[0] in (0x81, 0x88, 0x89, 0x8A, 0xC1), data[:40]
        assert not self._closed, data[:40]
        if (frame := first_frame(data)) is None:
            return None
        payload, after = frame
        if data[0] == 0x88:
            self._closed = True
        elif data[0] == 0xC1:
            assert self._form is Form.DEFLATE
            self._message(inflate(payload, 200_000))
        elif data[0] == 0x81:
            self._message(payload)
        return after

    def _take_event(self, data: bytes) -> bytes | None:
        event, end, after = data.partition(b"\n\n")
        if not end:
            return None
        lines = event.split(b"\n")
        texts = [line[6:] for line in lines if line.startswith(b"data: ")]
        assert len(texts) <= 1
        names = (b"id: ", b"event: ", b"data: ", b"retry: ", b":")
        assert all(line.startswith(names) for line in lines), event
        if texts:
            self._message(texts[0])
        elif self._begun and self.next and lines[0].startswith(b"id: "):
            (stream,) = self.next
            self._is_at(stream, lines[0][4:].decode())
        return after

    def _message(self, text: bytes) -> None:
        message = orjson.loads(text)
        match message["type"]:
            case "subscribed":
                for name, place in message["positions"].items():
                    self.next[name] = parse(place["position"]).offsets[0]
            case "unsubscribed":
                for name in message["streams"]:
                    self.next.pop(name, None)
            case "lagged":
                assert message["reason"] == "EPOCH_CHANGED"
                self.next[message["stream"]] = 0
            case "data":
                stream = message["stream"]
                assert message["data"]["n"] == self.next_wanted(self.next[stream])
                self.next[stream] = message["data"]["n"] + 1
                self.records += 1
            case "position":
                self._is_at(message["stream"], message["id"])
            case other:
                assert other in ("pong", "error"), other

    def next_wanted(self, number: int) -> int:
        """The number of the next record that it wants, from this one on."""
        while self._wanted is not None and number % 6 not in self._wanted:
            number += 1
        return number

    def _is_at(self, stream: str, position: str) -> None:
        """It is told that it has everything before this position."""
        number = parse(position).offsets[0]
        assert self._wanted is not None
        assert self.next[stream] <= number <= self.next_wanted(self.next[stream])
        self.next[stream] = number
        self.positions += 1
