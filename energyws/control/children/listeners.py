"""The listening sockets, one per worker slot, and how new connections are steered between them.

The supervisor holds them; SO_REUSEPORT lets them share a port (socket(7)). A classic BPF program
(SO_ATTACH_REUSEPORT_CBPF, which needs no privilege) picks the socket of a new connection at random
among the slots that take connections. So a slot gets none before its worker is ready and none when
it retires, and its queue can be emptied before its socket is closed: closing a socket resets the
connections in its queue.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final

from energyws.errors import BootError
from energyws.logs.events import Log
from energyws.settings import Server

# Python's socket module lacks this one (asm-generic/socket.h).
_SO_ATTACH_REUSEPORT_CBPF: Final = 51
# linux/bpf_common.h and linux/filter.h: load a random word, modulo, compare, return.
_LOAD_WORD: Final = 0x20
_MODULO: Final = 0x94
_JUMP_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_RANDOM: Final = 0xFFFFF000 + 56
# No index: the kernel chooses by the hash of the addresses, as without a program.
_ANY: Final = 0xFFFFFFFF

_log = Log("sockets")


class Listeners:
    """The sockets by slot; makes the first `count`. Raises BootError if it cannot listen."""

    def __init__(self, settings: Server, count: int) -> None:
        self._backlog = settings.backlog
        # In the order of the kernel's group: the program returns an index into that.
        self._sockets: list[socket.socket] = []
        self._released: set[int] = set()
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            # With SO_REUSEPORT a second service of the same user could join the port unnoticed and
            # take a share of the connections; without it, binding fails unless the port is free.
            with _socket(family, kind, protocol, reuse_port=False) as probe:
                probe.bind(address)
                self.port: Final[int] = probe.getsockname()[1]
            self._kind = family, kind, protocol
            self._address = (address[0], self.port, *address[2:])
            for _ in range(count):
                self._add()
        except OSError as error:
            self.close()
            hint = ": is the service running already?" if error.errno == errno.EADDRINUSE else ""
            raise BootError(
                f"server.host, server.port: cannot listen on {settings.host}:{settings.port}: "
                f"{error.strerror}{hint}"
            ) from None

    def claim(self, slot: int) -> int:
        """The descriptor of a slot's socket, for a worker that will accept on it.

        A new socket gets no connections before `steer` names its slot.
        """
        self._released.discard(slot)
        while len(self._sockets) <= slot:
            self._add()
        return self._sockets[slot].fileno()

    def steer(self, slots: Sequence[int]) -> None:
        """Send new connections to these slots only."""
        program = steering(slots)
        code = ctypes.create_string_buffer(program, len(program))
        # struct sock_fprog: the number of instructions and their address.
        fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
        try:
            self._sockets[0].setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, fprog)
        except OSError as error:
            _log.warning("connections cannot be steered", slots=len(slots), reason=error.strerror)

    def release(self, slot: int) -> None:
        """Close a retired slot's socket, once all higher slots are released as well."""
        self._released.add(slot)
        # Only from the end: the kernel would move the last socket into a gap.
        while (last := len(self._sockets) - 1) in self._released:
            self._released.discard(last)
            self._sockets.pop().close()

    def listen(self, backlog: int) -> None:
        """Let `backlog` connections wait in each queue from now on."""
        self._backlog = backlog
        for each in self._sockets:
            each.listen(backlog)

    def close(self) -> None:
        """Close all sockets."""
        for each in self._sockets:
            each.close()

    def _add(self) -> None:
        added = _socket(*self._kind, reuse_port=True)
        try:
            added.bind(self._address)
            added.listen(self._backlog)
        except OSError:
            added.close()
            raise
        self._sockets.append(added)


def steering(slots: Sequence[int]) -> bytes:
    """A BPF program that returns one of `slots` at random: struct sock_filter, 8 bytes each."""
    code = [(_LOAD_WORD, 0, 0, _RANDOM), (_MODULO, 0, 0, len(slots))]
    for number, slot in enumerate(slots):
        code += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, slot)]
    code.append((_RETURN, 0, 0, _ANY))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _socket(
    family: socket.AddressFamily, kind: socket.SocketKind, protocol: int, *, reuse_port: bool
) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made
