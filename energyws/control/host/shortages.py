"""Resources that the configuration needs, and machine or container do not allow: pure.

Each shortage comes with the command that ends it. docs/sizing.md lists what is checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from energyws.control.host.facts import Host
from energyws.control.host.memory import connection_bytes, needed
from energyws.settings import MIB, Settings

# Descriptors of a process that are not client connections.
OTHER_DESCRIPTORS: Final = 64
# Standard deviations above the mean: one start in 30,000 has a fuller worker.
_FULLEST_SIGMAS: Final = 4


@dataclass(frozen=True, slots=True)
class Shortage:
    """A warning for the log: its event, its fields, and the command or change that ends it."""

    event: str
    fields: tuple[tuple[str, int], ...]
    hint: str


def fullest(connections: int, workers: int) -> int:
    """How many of all connections the fullest worker has: the kernel spreads them at random."""
    if workers == 1:
        return connections
    mean = connections / workers
    return min(connections, math.ceil(mean + _FULLEST_SIGMAS * math.sqrt(mean)))


def shortages(settings: Settings, workers: int, host: Host) -> list[Shortage]:
    """The resources that run short once server.max_connections clients are connected."""
    found = (
        _descriptors(settings, workers, host),
        _accept_queue(settings, host),
        _handshake_queue(settings, host),
        _tracking(settings, host),
        _tcp_memory(settings, host),
        _send_buffer(settings, host),
        _cores(workers, host),
        _memory(settings, workers, host),
    )
    return [shortage for each in found for shortage in each]


def _descriptors(settings: Settings, workers: int, host: Host) -> Iterator[Shortage]:
    most = settings.server.max_connections
    want = fullest(most, workers) + OTHER_DESCRIPTORS
    if host.descriptors is None or host.descriptors >= want:
        return
    hint = f"ulimit -n {want}"
    if host.nr_open is not None and host.nr_open < want:
        # Not even root may exceed it (setrlimit(2)).
        hint = f"sysctl -w fs.nr_open={want} && {hint}"
    room = workers * max(0, host.descriptors - OTHER_DESCRIPTORS)
    yield Shortage(
        "too few file descriptors for server.max_connections",
        (("max_connections", most), ("room", room), ("limit_per_process", host.descriptors)),
        hint,
    )


def _accept_queue(settings: Settings, host: Host) -> Iterator[Shortage]:
    # listen(2) reduces the backlog silently.
    backlog = settings.server.backlog
    if host.somaxconn is not None and host.somaxconn < backlog:
        yield Shortage(
            "net.core.somaxconn is below server.backlog",
            (("backlog", backlog), ("limit", host.somaxconn)),
            f"sysctl -w net.core.somaxconn={backlog}",
        )


def _handshake_queue(settings: Settings, host: Host) -> Iterator[Shortage]:
    # With SYN cookies, the default, the kernel ignores this limit (tcp_conn_request in
    # net/ipv4/tcp_input.c); without them it keeps the last quarter for known peers.
    if host.syncookies != 0 or host.syn_backlog is None:
        return
    backlog = settings.server.backlog
    want = math.ceil(backlog * 4 / 3)
    if host.syn_backlog < want:
        yield Shortage(
            "net.ipv4.tcp_max_syn_backlog is below server.backlog",
            (("backlog", backlog), ("limit", host.syn_backlog)),
            f"sysctl -w net.ipv4.tcp_max_syn_backlog={want}",
        )


def _tracking(settings: Settings, host: Host) -> Iterator[Shortage]:
    if host.conntrack_max is None:
        return
    most = settings.server.max_connections
    # Twice: when clients reconnect after a restart, the entries of their old connections are still
    # there, for two minutes by default (nf_conntrack_tcp_timeout_time_wait).
    want = 2 * most + (host.conntrack_count or 0)
    if host.conntrack_max < want:
        yield Shortage(
            "connection tracking has too few entries for server.max_connections",
            (("max_connections", most), ("limit", host.conntrack_max)),
            f"sysctl -w net.netfilter.nf_conntrack_max={want}",
        )


def _tcp_memory(settings: Settings, host: Host) -> Iterator[Shortage]:
    if host.tcp_mem is None or host.tcp_rmem is None or host.tcp_wmem is None:
        return
    most = settings.server.max_connections
    # Each connection is guaranteed the minimum of both buffers. If these minima alone exceed the
    # pressure threshold, the kernel shrinks the buffers of all clients, fast ones too.
    pages = math.ceil(most * (host.tcp_rmem[0] + host.tcp_wmem[0]) / host.page_bytes)
    if host.tcp_mem[1] < pages:
        # In the kernel's own proportions.
        low, high = math.ceil(pages * 3 / 4), math.ceil(pages * 3 / 2)
        yield Shortage(
            "TCP memory is short for server.max_connections",
            (("max_connections", most), ("pages", host.tcp_mem[1]), ("needed", pages)),
            f'sysctl -w net.ipv4.tcp_mem="{low} {pages} {high}"',
        )


def _send_buffer(settings: Settings, host: Host) -> Iterator[Shortage]:
    # setsockopt(2) reduces it silently.
    size = settings.server.send_buffer_bytes
    if size is not None and host.wmem_max is not None and host.wmem_max < size:
        yield Shortage(
            "net.core.wmem_max is below server.send_buffer_bytes",
            (("send_buffer_bytes", size), ("limit", host.wmem_max)),
            f"sysctl -w net.core.wmem_max={size}",
        )


def _cores(workers: int, host: Host) -> Iterator[Shortage]:
    if workers > host.cores:
        yield Shortage(
            "more workers than cores",
            (("workers", workers), ("cores", host.cores)),
            f"energyws scale {host.cores}, or server.workers: auto, or raise cpu.max",
        )


def _memory(settings: Settings, workers: int, host: Host) -> Iterator[Shortage]:
    if host.memory_bytes is None:
        return
    memory = needed(settings, workers)
    if host.memory_bytes >= memory.total:
        return
    each = connection_bytes(settings)
    fit = (host.memory_bytes - memory.total + memory.connections) // each
    hint = f"set the container's memory limit (memory.max) to {math.ceil(memory.total / MIB)} MiB"
    if fit > 0:
        hint += f", or server.max_connections to {fit}"
    yield Shortage(
        "less memory than the configuration can need",
        (("limit_mib", host.memory_bytes // MIB), ("needed_mib", math.ceil(memory.total / MIB))),
        hint,
    )
