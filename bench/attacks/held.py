"""Many connections of one attacker, opened evenly and again when the service ends them."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bench.attacks.target import Target

_READ_BYTES: Final = 1 << 18
_POLL_SECONDS: Final = 0.01
_EVENTS_AT_ONCE: Final = 256


class Until(Enum):
    """How long a connection is kept: for ever, until its answer begins, or until it has ended."""

    FOR_EVER = 0
    ANSWERED = 1
    READ = 2


@dataclass(slots=True)
class _Kept:
    connection: socket.socket
    first: bytes
    status: bytes = b""
    received: int = 0


class Held:
    """Counts `opened`, `closed` (by the service), `status 101`, … and, at the end, `held`.

    count: how many at a time. begin: the first bytes of a connection, by its number. rate: new
    connections a second. read_bytes: how much of what comes is read from each; None: all. word:
    makes what is sent on each connection, every `pause` seconds. addresses: how many addresses the
    attacker has. admin: the admin port instead of the clients'.
    """

    def __init__(
        self,
        target: Target,
        count: int,
        begin: Callable[[int], bytes],
        *,
        rate: float,
        until: Until = Until.FOR_EVER,
        read_bytes: int | None = None,
        word: Callable[[], bytes] | None = None,
        pause: float = 1.0,
        addresses: int = 1,
        admin: bool = False,
    ) -> None:
        self._target = target
        self._count = count
        self._begin = begin
        self._rate = rate
        self._until = until
        self._read_bytes = read_bytes
        self._word = word
        self._pause = pause
        self._addresses = addresses
        self._port = target.plan.admin_port if admin else target.plan.port
        self._poll = select.epoll()
        self._kept: dict[int, _Kept] = {}

    def run(self) -> None:
        """Until the attack is over."""
        due = self._target.due(self._rate)
        next_word = time.monotonic() + self._pause
        try:
            while self._target.going:
                for _ in range(due()):
                    if len(self._kept) < self._count:
                        self._open()
                for descriptor, events in self._poll.poll(_POLL_SECONDS, _EVENTS_AT_ONCE):
                    self._serve(descriptor, events)
                if self._word is not None and time.monotonic() >= next_word:
                    next_word += self._pause
                    self._say(self._word)
            self._target.counts["held"] = sum(
                kept.status in (b"101", b"200") for kept in self._kept.values()
            )
            self._target.counts["open"] = len(self._kept)
        finally:
            for kept in self._kept.values():
                kept.connection.close()
            self._poll.close()

    def _open(self) -> None:
        number = self._target.counts["opened"]
        self._target.counts["opened"] += 1
        connection = self._target.made(number % self._addresses)
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", self._port))
        self._kept[connection.fileno()] = _Kept(connection, self._begin(number))
        self._poll.register(connection, select.EPOLLOUT)

    def _serve(self, descriptor: int, events: int) -> None:
        kept = self._kept[descriptor]
        try:
            if events & select.EPOLLOUT:
                if kept.first:
                    kept.connection.send(kept.first)
                self._poll.modify(descriptor, select.EPOLLIN)
            elif events & select.EPOLLIN:
                self._read(descriptor, kept)
            else:
                raise ConnectionResetError
        except BlockingIOError:
            pass
        except OSError:
            self._target.counts["closed"] += 1
            self._drop(descriptor)

    def _read(self, descriptor: int, kept: _Kept) -> None:
        data = kept.connection.recv(_READ_BYTES)
        if not data:
            if self._until is Until.READ and kept.status:
                self._drop(descriptor)
                return
            raise ConnectionResetError
        kept.received += len(data)
        self._target.counts["bytes read"] += len(data)
        if not kept.status:
            # HTTP/1.1 101 Switching Protocols, or a record of TLS.
            kept.status = data[9:12] if data.startswith(b"HTTP/") else b"none"
            self._target.counts[f"status {kept.status.decode(errors='replace')}"] += 1
            if self._until is Until.ANSWERED:
                self._drop(descriptor)
                return
        if self._read_bytes is not None and kept.received >= self._read_bytes:
            # Errors and hang-ups are still reported.
            self._poll.modify(descriptor, 0)

    def _say(self, word: Callable[[], bytes]) -> None:
        for descriptor, kept in list(self._kept.items()):
            try:
                kept.connection.send(word())
            except BlockingIOError:
                continue
            except OSError:
                self._target.counts["closed"] += 1
                self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        self._kept.pop(descriptor).connection.close()
