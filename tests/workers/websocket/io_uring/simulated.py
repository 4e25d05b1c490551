"""The kernel's side of a send queue, in plain memory, with the faults that a test asks for."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from workers.websocket.io_uring.send_queue import (
    COMPLETIONS,
    CQE_BYTES,
    ENTRIES,
    SEND,
    SQE_BYTES,
    Queues,
    SendQueue,
)

# opcode, flags, ioprio, fd, off, addr, len, msg_flags, user_data, and what sends do not use.
ENTRY: Final = struct.Struct("=BBHiQQIIQ24x")
COMPLETION: Final = struct.Struct("=QiI")
# MSG_DONTWAIT | MSG_NOSIGNAL.
FLAGS: Final = 0x4040
MASK: Final = 0xFFFF_FFFF


class SimulatedKernel:
    """send: what a socket does, by descriptor; returns what a completion would say.

    faults: for the next calls of submit, in order: an errno to fail with (negative), or how many
    entries it takes at most. late: completions come only when they are waited for. shuffle: they
    come in another order.
    """

    def __init__(self, send: Callable[[int, bytes], int], place: int = 0) -> None:
        self.send = send
        self.faults: deque[int] = deque()
        self.late = False
        self.shuffle: Callable[[list[tuple[int, int]]], None] | None = None
        self.waits: list[int] = []
        self._head = self._tail = place
        self._unposted: list[tuple[int, int]] = []
        self.queues = Queues(
            *(memoryview(bytearray(4)).cast("I"), memoryview(bytearray(ENTRIES * SQE_BYTES))),
            *(memoryview(bytearray(4)).cast("I"), memoryview(bytearray(4)).cast("I")),
            memoryview(bytearray(COMPLETIONS * CQE_BYTES)),
        )
        for word in (self.queues.sq_tail, self.queues.cq_head, self.queues.cq_tail):
            word[0] = place

    def queue(self) -> SendQueue:
        made = SendQueue(self.queues, self)
        # As if it had sent that much already.
        made._place = self._head
        return made

    def submit(self, count: int) -> int:
        waiting = (self.queues.sq_tail[0] - self._head) & MASK
        assert waiting <= ENTRIES
        fault = self.faults.popleft() if self.faults else count
        if fault < 0:
            raise OSError(-fault, os.strerror(-fault))
        taken = min(count, waiting, fault)
        for _ in range(taken):
            self._take()
        if not self.late:
            self._post()
        return taken

    def wait(self, count: int) -> None:
        self.waits.append(count)
        self._post()
        assert count <= (self.queues.cq_tail[0] - self.queues.cq_head[0]) & MASK

    def _take(self) -> None:
        at = self._head % ENTRIES * SQE_BYTES
        code, flags, priority, descriptor, offset, address, length, how, user_data = (
            ENTRY.unpack_from(self.queues.sqes, at)
        )
        assert (code, flags, priority, offset, how) == (SEND, 0, 0, 0, FLAGS)
        data = ctypes.string_at(address, length)
        self._head = (self._head + 1) & MASK
        self._unposted.append((user_data, self.send(descriptor, data)))

    def _post(self) -> None:
        if self.shuffle is not None:
            self.shuffle(self._unposted)
        for user_data, result in self._unposted:
            room = COMPLETIONS - ((self._tail - self.queues.cq_head[0]) & MASK)
            assert room > 0
            at = self._tail % COMPLETIONS * CQE_BYTES
            COMPLETION.pack_into(self.queues.cqes, at, user_data, result, 0)
            self._tail = (self._tail + 1) & MASK
        self._unposted.clear()
        self.queues.cq_tail[0] = self._tail


class Sockets:
    """Take what `room` says of each, everything where it says nothing, or fail."""

    def __init__(self) -> None:
        # A negative number is an errno.
        self.room: dict[int, int] = {}
        self.got: dict[int, list[bytes]] = {}

    def send(self, descriptor: int, data: bytes) -> int:
        room = self.room.get(descriptor, len(data))
        if descriptor < 0:
            return -errno.EBADF
        if room == 0:
            return -errno.EAGAIN
        if room < 0:
            return room
        self.got.setdefault(descriptor, []).append(data[:room])
        return min(room, len(data))
