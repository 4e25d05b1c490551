"""How much memory the service needs under a configuration, as long as no client is slow.

The figures are those of bench.idle and bench.memory, rounded up; a test compares them with
bench/results. A client that does not read takes more: server.write_buffer_bytes, and as much as the
kernel lets its send buffer grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from energyws.settings import KIB, MIB, Settings

SUPERVISOR_BYTES: Final = 48 * MIB
CONSUMER_BYTES: Final = 50 * MIB
WORKER_BYTES: Final = 54 * MIB
# With the kernel's part, which counts against a container too: sockets, files, epoll.
PLAIN_BYTES: Final = 17 * KIB
TLS_BYTES: Final = 32 * KIB
# The consumer's read-ahead from Kafka, and the blocks that it reads for history requests.
READING_BYTES: Final = 32 * MIB
# A worker's compressed frames (energyws.protocol.deflate).
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
        return self.processes + self.buffers + self.rings + self.connections


def connection_bytes(settings: Settings) -> int:
    """Bytes of one connection, the kernel's part included."""
    return PLAIN_BYTES if settings.server.tls is None else TLS_BYTES


def needed(settings: Settings, workers: int) -> Memory:
    """The memory with every ring full and server.max_connections clients that read."""
    server = settings.server
    compressed = workers * COMPRESSED_BYTES if server.compression else 0
    return Memory(
        processes=SUPERVISOR_BYTES + CONSUMER_BYTES + workers * WORKER_BYTES,
        buffers=READING_BYTES + compressed,
        # The consumer and each worker have a ring per stream.
        rings=settings.history.max_bytes * max(1, len(settings.streams)) * (workers + 1),
        connections=server.max_connections * connection_bytes(settings),
    )
