"""How much memory the service needs under a configuration, as long as no client is slow.

The figures are those of bench.idle and bench.memory, rounded up; a test compares them with
bench/results. `pinned_bytes` has what a client takes that does not read.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

from energyws.protocol.deflate import WINDOW_BYTES
from energyws.settings import KIB, MIB, Settings

SUPERVISOR_BYTES: Final = 48 * MIB
CONSUMER_BYTES: Final = 50 * MIB
WORKER_BYTES: Final = 54 * MIB
# With the kernel's part, which counts against a container too: sockets, files, epoll.
PLAIN_BYTES: Final = 17 * KIB
TLS_BYTES: Final = 32 * KIB
# From OpenSSL 3.5 on: its own state is larger, and it keeps the key of the exchange, which with
# X25519MLKEM768, as browsers offer it, takes 7 kB (docs/performance.md).
TLS_BYTES_3_5: Final = 44 * KIB
# The largest write to a client, unless one record is larger (workers.websocket.fanout), and the
# largest answer that is written at once (workers.websocket.clients.last).
WRITE_BYTES: Final = 256 * KIB
ANSWER_BYTES: Final = 1024 * KIB
# What the kernel holds of what a client sends (workers.websocket.connection.accepted).
RECEIVED_BYTES: Final = 128 * KIB
# The kernel looks at its limit before it takes a segment.
SEGMENT_BYTES: Final = 64 * KIB
# Without a limit: the third value of net.ipv4.tcp_wmem, by default.
KERNEL_SEND_BYTES: Final = 4 * MIB
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


def connection_bytes(
    settings: Settings, openssl: tuple[int, ...] = ssl.OPENSSL_VERSION_INFO
) -> int:
    """Bytes of one connection, the kernel's part included."""
    if settings.server.tls is None:
        return PLAIN_BYTES
    return TLS_BYTES if openssl < (3, 5) else TLS_BYTES_3_5


def pinned_bytes(settings: Settings, openssl: tuple[int, ...] = ssl.OPENSSL_VERSION_INFO) -> int:
    """The most bytes that one client can make the service hold, the kernel's part included.

    As long as no record is larger than WRITE_BYTES.
    """
    server = settings.server
    limit = server.send_buffer_bytes
    # The kernel takes two bytes for one (socket(7)).
    kernel = KERNEL_SEND_BYTES if limit is None else 2 * limit + SEGMENT_BYTES
    unsent = max(server.write_buffer_bytes + WRITE_BYTES, ANSWER_BYTES)
    received = server.max_message_bytes + (WINDOW_BYTES if server.compression else 0)
    return connection_bytes(settings, openssl) + unsent + kernel + received + RECEIVED_BYTES


def needed(
    settings: Settings, workers: int, openssl: tuple[int, ...] = ssl.OPENSSL_VERSION_INFO
) -> Memory:
    """The memory with every ring full and server.max_connections clients that read.

    openssl: its version; by default that of this interpreter, which runs the workers, too.
    """
    server = settings.server
    compressed = workers * COMPRESSED_BYTES if server.compression else 0
    return Memory(
        processes=SUPERVISOR_BYTES + CONSUMER_BYTES + workers * WORKER_BYTES,
        buffers=READING_BYTES + compressed,
        # The consumer and each worker have a ring per stream.
        rings=settings.history.max_bytes * max(1, len(settings.streams)) * (workers + 1),
        connections=server.max_connections * connection_bytes(settings, openssl),
    )
