"""io_uring's two queues, as far as sends need them: one entry for each socket, one call for all.

The layout is that of the kernel's include/uapi/linux/io_uring.h. Nothing here makes a system call:
the queues are memory, and the calls are given. What Python does for each socket is one number in a
strided copy; the results are compared with those of complete sends all at once.
"""

from __future__ import annotations

import ctypes
import errno
from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

# More would hold the event loop and, where cores are few, the clients for longer, and saves little.
ENTRIES: Final = 64
# The kernel makes room for twice as many completions.
COMPLETIONS: Final = 2 * ENTRIES
SQE_BYTES: Final = 64
CQE_BYTES: Final = 16
SEND: Final = 26

_MSG_DONTWAIT: Final = 0x40
_MSG_NOSIGNAL: Final = 0x4000
_UINT32: Final = 0xFFFF_FFFF
# The kernel is short of something, or was interrupted: the next call may succeed.
_PASSING: Final = {errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENOMEM}
_ALL_SENT: Final[Sequence[tuple[int, int]]] = ()


class Queues(NamedTuple):
    """The memory that is shared with the kernel.

    sq_tail, cq_head, cq_tail: of one uint32 each. sqes: ENTRIES entries, in bytes. cqes:
    COMPLETIONS entries, in bytes.
    """

    sq_tail: memoryview
    sqes: memoryview
    cq_head: memoryview
    cq_tail: memoryview
    cqes: memoryview


class Kernel(Protocol):
    """io_uring_enter(2)."""

    def submit(self, count: int) -> int:
        """Submit this many entries; returns how many were. Raises OSError if none was."""

    def wait(self, count: int) -> None:
        """Wait until there are this many completions. Raises OSError."""


class SendQueue:
    """Sends the same bytes to many sockets.

    failure: why it cannot be used any more; None as long as it can.
    """

    def __init__(self, queues: Queues, kernel: Kernel) -> None:
        self.failure: OSError | None = None
        self._queues = queues
        self._kernel = kernel
        # Every send completes before the next call, so one number is the place in both queues.
        self._place = 0
        # What the entries refer to.
        self._data = b""
        words = queues.sqes.cast("i")
        step = SQE_BYTES // 4
        self._descriptors = words[1::step]
        self._addresses = queues.sqes.cast("Q")[2 :: SQE_BYTES // 8]
        self._lengths = words[6::step]
        for at in range(ENTRIES):
            queues.sqes[at * SQE_BYTES] = SEND
            # The kernel must not keep what does not fit, to send it later.
            words[7 + at * step] = _MSG_DONTWAIT | _MSG_NOSIGNAL
            # user_data: which entry a completion belongs to.
            words[8 + at * step] = at
        self._cqes = queues.cqes.cast("Q")
        self._completions = queues.cqes.cast("i")
        # The completions of sends that took everything, whose length is filled in.
        self._complete = memoryview(array("Q", bytes(COMPLETIONS * CQE_BYTES)))
        in_words = self._complete.cast("B").cast("i")
        self._complete_lengths = in_words[2 :: CQE_BYTES // 4]
        for at in range(COMPLETIONS):
            in_words[at * CQE_BYTES // 4] = at % ENTRIES

    def send(self, descriptors: array[int], data: bytes) -> Sequence[tuple[int, int]]:
        """Send `data` to each of these sockets, ENTRIES at most; none of them blocks.

        Returns those that did not take all of it: their index, and how many bytes they took. Their
        owners have to send the rest, and meet the error if there is one.
        """
        if data is not self._data:
            self._load(data)
        count = len(descriptors)
        begin = self._place % ENTRIES
        fit = ENTRIES - begin
        if count <= fit:
            self._descriptors[begin : begin + count] = descriptors
        else:
            self._descriptors[begin:] = descriptors[:fit]
            self._descriptors[: count - fit] = descriptors[fit:]
        after = (self._place + count) & _UINT32
        self._queues.sq_tail[0] = after
        submitted = self._submit(count)
        if (
            submitted == count
            and self._queues.cq_tail[0] == after
            and self._all_complete(self._place % COMPLETIONS, count)
        ):
            self._place = self._queues.cq_head[0] = after
            return _ALL_SENT
        return self._incomplete(count, submitted)

    def _load(self, data: bytes) -> None:
        address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
        self._addresses[:] = array("Q", [address or 0]) * ENTRIES
        length = array("i", [len(data)])
        self._lengths[:] = length * ENTRIES
        self._complete_lengths[:] = length * COMPLETIONS
        self._data = data

    def _submit(self, count: int) -> int:
        try:
            return self._kernel.submit(count)
        except OSError as error:
            if error.errno not in _PASSING:
                self.failure = error
            return 0

    def _all_complete(self, first: int, count: int) -> bool:
        """Whether the completions from this place on are those of sends that took everything."""
        begin, end = 2 * first, 2 * (first + count)
        beyond = end - 2 * COMPLETIONS
        if self._cqes[begin:end] != self._complete[begin:end]:
            return False
        return beyond <= 0 or self._cqes[:beyond] == self._complete[:beyond]

    def _incomplete(self, count: int, submitted: int) -> Sequence[tuple[int, int]]:
        queues, place = self._queues, self._place
        while 0 < submitted < count and (more := self._submit(count - submitted)):
            submitted += more
        # The kernel has not looked at the others: they are taken back.
        after = queues.sq_tail[0] = (place + submitted) & _UINT32
        if queues.cq_tail[0] != after:
            self._kernel.wait(submitted)
        taken = [0] * count
        for nth in range(submitted):
            at = (place + nth) % COMPLETIONS * CQE_BYTES // 4
            entry, result = self._completions[at], self._completions[at + 2]
            taken[(entry - place) % ENTRIES] = max(result, 0)
        self._place = queues.cq_head[0] = after
        size = len(self._data)
        return [(at, bytes_taken) for at, bytes_taken in enumerate(taken) if bytes_taken < size]
