"""Whether a worker sends live frames by io_uring, and if not, why: a number on the board."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class IoUring(IntEnum):
    """UNKNOWN: no worker has said yet, or it said what only later versions know.

    The numbers are on the board: new ones go to the end.
    """

    UNKNOWN = 0
    IN_USE = 1
    OFF = 2
    TLS = 3
    FORBIDDEN = 4
    UNSUPPORTED = 5
    FAILED = 6

    @classmethod
    def _missing_(cls, value: object) -> IoUring:
        # During an upgrade, workers may be newer than their supervisor, or than `energyws status`.
        return cls.UNKNOWN

    @property
    def text(self) -> str:
        """In words, for operators."""
        return _WORDS[self]

    @property
    def label(self) -> str:
        """In one word, for metrics and scripts."""
        return self.name.lower()


_WORDS: Final[Mapping[IoUring, str]] = {
    IoUring.UNKNOWN: "not known yet",
    IoUring.IN_USE: "in use",
    IoUring.OFF: "not used: server.io_uring is off",
    IoUring.TLS: "not used: with TLS, OpenSSL writes to the sockets",
    IoUring.FORBIDDEN: "not used: a seccomp profile or kernel.io_uring_disabled forbids it",
    IoUring.UNSUPPORTED: "not used: the kernel cannot do it, or a seccomp profile hides it",
    IoUring.FAILED: "not used: it failed, and the worker's log says how",
}
