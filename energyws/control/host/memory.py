"""How much memory the service can need under a configuration, with nobody slow.

The figures are those of bench.idle and bench.memory, rounded up; a test compares them with
bench/results. A client that does not read takes more: server.write_buffer_bytes, and what the
kernel lets its send buffer grow to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from energyws.settings import KIB, MIB, Settings

SUPERVISOR_BYTES: Final = 48 * MIB
CONSUMER_BYTES: Final = 50 * MIB
WORKER_BYTES: Final = 54 * MIB
# With the kernel's part: sockets, files and epoll count against a container, too.
PLAIN_BYTES: Final = 17 * KIB
TLS_BYTES: Final = 32 * KIB
# The consumer's read-ahead from Kafka, and its blocks of history.
READING_BYTES: Final = 32 * MIB
# What a worker remembers of frames that it compressed (energyws.protocol.deflate).
COMPRESSED_BYTES: Final = 8 * MIB


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the processes themselves, of their buffers and rings, and of the connections."""

    processes: int
    buffers: int
    rings: int
    connections: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.processes + self.buffers + self.rings + self.connections


def connection_bytes(settings: Settings) -> int:
    """Of one connection."""
    return PLAIN_BYTES if settings.server.tls is None else TLS_BYTES


def needed(settings: Settings, workers: int) -> Memory:
    """With every ring full and server.max_connections clients that read."""
    server = settings.server
    compressed = workers * COMPRESSED_BYTES if server.compression else 0
    return Memory(
        processes=SUPERVISOR_BYTES + CONSUMER_BYTES + workers * WORKER_BYTES,
        buffers=READING_BYTES + compressed,
        # The consumer has one of each stream, and so has every worker.
        rings=settings.history.max_bytes * max(1, len(settings.streams)) * (workers + 1),
        connections=server.max_connections * connection_bytes(settings),
    )
