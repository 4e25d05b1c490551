"""The listening sockets: one per worker slot, held by the supervisor, and who of them is chosen.

SO_REUSEPORT lets them share a port (socket(7)). Which of them a new connection goes to is decided
by a classic BPF program of ours (SO_ATTACH_REUSEPORT_CBPF, for which no privilege is needed), at
random among the slots that take connections: so a slot gets none before its worker is ready and
none once it is to go, and its queue can be emptied before its socket is closed. Closing a socket
resets whatever waits in its queue.
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
# No such index: the kernel chooses by the hash of the addresses, as without a program.
_ANY: Final = 0xFFFFFFFF

_log = Log("sockets")


class Listeners:
    """The sockets by slot. The first `count` are there at once; raises BootError."""

    def __init__(self, settings: Server, count: int) -> None:
        self._backlog = settings.backlog
        # Their order is that of the kernel's group, which a program's answer is an index into.
        self._sockets: list[socket.socket] = []
        self._done: set[int] = set()
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            # Another service of the same user could join the port with SO_REUSEPORT unnoticed, and
            # take a share of its connections; without it, the port must be free.
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

        A socket that is made here gets connections only once `steer` names its slot.
        """
        self._done.discard(slot)
        while len(self._sockets) <= slot:
            self._add()
        return self._sockets[slot].fileno()

    def steer(self, slots: Sequence[int]) -> None:
        """Let new connections go to these slots only."""
        program = steering(slots)
        code = ctypes.create_string_buffer(program, len(program))
        # struct sock_fprog: the number of instructions and where they are.
        fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
        try:
            self._sockets[0].setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, fprog)
        except OSError as error:
            _log.warning("connections cannot be steered", slots=len(slots), reason=error.strerror)

    def release(self, slot: int) -> None:
        """A slot is not needed any more: its worker has emptied the queue and is gone."""
        self._done.add(slot)
        # Only from the end: the kernel would move the last one into a gap.
        while (last := len(self._sockets) - 1) in self._done:
            self._done.discard(last)
            self._sockets.pop().close()

    def listen(self, backlog: int) -> None:
        """Let so many connections wait in each queue from now on."""
        self._backlog = backlog
        for each in self._sockets:
            each.listen(backlog)

    def close(self) -> None:
        """Close them all."""
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
    """The program that returns one of `slots` at random (struct sock_filter, 8 bytes each)."""
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
