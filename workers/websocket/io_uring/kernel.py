"""The kernel's side of a send queue: io_uring_setup(2), io_uring_enter(2) and the shared memory.

The standard library has no binding for them; libc has `syscall`, and their numbers are the same on
every architecture that wheels are made for (Linux gave them after it had unified the tables).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from array import array
from typing import Final

from workers.websocket.io_uring.send_queue import (
    COMPLETIONS,
    CQE_BYTES,
    ENTRIES,
    SQE_BYTES,
    Queues,
    SendQueue,
)

_IO_URING_SETUP: Final = 425
_IO_URING_ENTER: Final = 426
_ENTER_GETEVENTS: Final = 1
_FEAT_SINGLE_MMAP: Final = 1
_OFFSET_QUEUES: Final = 0
_OFFSET_SQES: Final = 0x10000000
# struct io_uring_params: sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features,
# wq_fd, three reserved; then the offsets of the submission queue (head, tail, ring_mask,
# ring_entries, flags, dropped, array, reserved, and a reserved uint64), and of the completion queue
# (head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved, and a reserved uint64).
_PARAMS: Final = struct.Struct("=10I 8IQ 8IQ")
_SQ, _CQ = 10, 19


class Unsupported(OSError):
    """The kernel has io_uring, but it does not do what a send queue relies on."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.ENOSYS, reason)


class Ring:
    """One io_uring instance: a send queue's Kernel."""

    def __init__(self) -> None:
        """Raises OSError: EPERM where it is forbidden, ENOSYS where there is none."""
        # It keeps the GIL, which another thread would take in the middle of a batch.
        self._syscall = ctypes.PyDLL(None, use_errno=True).syscall
        self._syscall.argtypes = [ctypes.c_long] * 7
        self._syscall.restype = ctypes.c_long
        params = ctypes.create_string_buffer(_PARAMS.size)
        self._descriptor = self._call(_IO_URING_SETUP, ENTRIES, ctypes.addressof(params), 0, 0)
        try:
            self.queues = self._map(_PARAMS.unpack(params.raw))
        except BaseException:
            os.close(self._descriptor)
            raise

    def submit(self, count: int) -> int:
        return self._call(_IO_URING_ENTER, self._descriptor, count, 0, 0)

    def wait(self, count: int) -> None:
        while True:
            try:
                self._call(_IO_URING_ENTER, self._descriptor, 0, count, _ENTER_GETEVENTS)
            except InterruptedError:
                continue
            return

    def close(self) -> None:
        """Give it back; its queues are gone with their last user."""
        os.close(self._descriptor)

    def _call(self, number: int, first: int, second: int, third: int, fourth: int) -> int:
        # io_uring_enter's last two, a set of signals and its size, are not used.
        result: int = self._syscall(number, first, second, third, fourth, 0, 0)
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    def _map(self, params: tuple[int, ...]) -> Queues:
        sq_entries, cq_entries, features = params[0], params[1], params[5]
        if not features & _FEAT_SINGLE_MMAP or (sq_entries, cq_entries) != (ENTRIES, COMPLETIONS):
            raise Unsupported("the kernel's io_uring is older than Linux 5.4")
        sq_tail, sq_array = params[_SQ + 1], params[_SQ + 6]
        cq_head, cq_tail, cqes = params[_CQ], params[_CQ + 1], params[_CQ + 5]
        size = max(sq_array + 4 * ENTRIES, cqes + COMPLETIONS * CQE_BYTES)
        queues = memoryview(self._mapped(size, _OFFSET_QUEUES))
        sqes = memoryview(self._mapped(ENTRIES * SQE_BYTES, _OFFSET_SQES))
        # The submission queue names entries by their index: always the one at its own place.
        queues[sq_array : sq_array + 4 * ENTRIES] = array("I", range(ENTRIES)).tobytes()
        return Queues(
            queues[sq_tail : sq_tail + 4].cast("I"),
            sqes,
            queues[cq_head : cq_head + 4].cast("I"),
            queues[cq_tail : cq_tail + 4].cast("I"),
            queues[cqes : cqes + COMPLETIONS * CQE_BYTES],
        )

    def _mapped(self, size: int, offset: int) -> mmap.mmap:
        return mmap.mmap(
            self._descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=offset
        )


def open_send_queue() -> SendQueue:
    """A send queue that works; raises OSError (Unsupported if a trial fails)."""
    if sys.platform != "linux":
        raise Unsupported("io_uring is Linux's")
    ring = Ring()
    queue = SendQueue(ring.queues, ring)
    try:
        _try(queue)
    except BaseException:
        ring.close()
        raise
    return queue


def _try(queue: SendQueue) -> None:
    """Send to a socket with room, to one without, and to none, in one call."""
    data = b"\0" * 4096
    sender, receiver = socket.socketpair()
    full, unread = socket.socketpair()
    with sender, receiver, full, unread:
        full.setblocking(False)
        try:
            while True:
                full.send(data)
        except BlockingIOError:
            pass
        # A kernel that waits for room would not return from this call, or without a completion.
        short = queue.send(array("i", [full.fileno(), sender.fileno(), -1]), data)
        if queue.failure is not None:
            raise queue.failure
        if list(short) != [(0, 0), (2, 0)] or receiver.recv(len(data)) != data:
            raise Unsupported("io_uring does not send as the kernel's documentation says")
