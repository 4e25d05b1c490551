"""Shortages of this machine, and the command that ends each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.control.host.facts import Host
from energyws.control.host.shortages import OTHER_DESCRIPTORS, fullest, shortages
from energyws.settings import MIB, Kafka, Server, Settings

KAFKA = Kafka(brokers="b:9092", topic="t")
# A machine that has enough of everything.
AMPLE = Host(
    descriptors=1 << 20,
    nr_open=1 << 20,
    somaxconn=4096,
    syncookies=1,
    syn_backlog=128,
    conntrack_max=262_144,
    conntrack_count=100,
    tcp_mem=(100_000, 200_000, 300_000),
    tcp_rmem=(4096, 131_072, 6_291_456),
    tcp_wmem=(4096, 16_384, 4_194_304),
    # The kernel's default.
    wmem_max=212_992,
    cores=4,
    memory_bytes=8 << 30,
)


def settings(**server: object) -> Settings:
    return Settings(kafka=KAFKA, server=Server(**server))  # type: ignore[arg-type]


CASES: list[tuple[str, Settings, int, Host, list[str]]] = [
    ("enough", settings(), 4, AMPLE, []),
    ("no limit is known", settings(max_connections=10**9), 1, Host(), []),
    (
        "descriptors",
        settings(max_connections=10_000),
        1,
        replace(AMPLE, descriptors=1024),
        ["ulimit -n 10064"],
    ),
    (
        "descriptors for the fullest of two",
        settings(max_connections=10_000),
        2,
        replace(AMPLE, descriptors=5064),
        ["ulimit -n 5347"],
    ),
    ("just enough for one", settings(), 1, replace(AMPLE, descriptors=10_064), []),
    (
        "more than the kernel allows any process",
        settings(max_connections=200_000),
        1,
        replace(AMPLE, descriptors=100_000, nr_open=100_000, conntrack_max=None, tcp_mem=None),
        ["sysctl -w fs.nr_open=200064 && ulimit -n 200064"],
    ),
    (
        "queue",
        settings(),
        1,
        replace(AMPLE, somaxconn=128),
        ["sysctl -w net.core.somaxconn=4096"],
    ),
    (
        "send buffer",
        settings(send_buffer_bytes=1 << 20),
        1,
        replace(AMPLE, wmem_max=212_992),
        ["sysctl -w net.core.wmem_max=1048576"],
    ),
    ("no limit on the buffer", settings(send_buffer_bytes=None), 1, replace(AMPLE, wmem_max=1), []),
    ("a shorter queue is wanted", settings(backlog=100), 1, replace(AMPLE, somaxconn=128), []),
    (
        "handshakes without cookies",
        settings(backlog=3000),
        1,
        replace(AMPLE, syncookies=0, syn_backlog=2048),
        ["sysctl -w net.ipv4.tcp_max_syn_backlog=4000"],
    ),
    ("with cookies any length will do", settings(), 1, replace(AMPLE, syncookies=2), []),
    (
        "tracked connections",
        settings(max_connections=10_000),
        1,
        replace(AMPLE, conntrack_max=20_000, conntrack_count=500),
        ["sysctl -w net.netfilter.nf_conntrack_max=20500"],
    ),
    ("nothing is tracked", settings(), 1, replace(AMPLE, conntrack_max=None), []),
    (
        "TCP memory",
        settings(max_connections=10_000),
        1,
        replace(AMPLE, tcp_mem=(11_000, 15_000, 22_000)),
        ['sysctl -w net.ipv4.tcp_mem="15000 20000 30000"'],
    ),
    (
        "cores",
        settings(),
        4,
        replace(AMPLE, cores=2),
        ["energyws scale 2, or server.workers: auto, or raise cpu.max"],
    ),
    (
        "memory",
        settings(max_connections=10_000),
        1,
        replace(AMPLE, memory_bytes=256 * MIB),
        [
            "set the container's memory limit (memory.max) to 391 MiB, "
            "or server.max_connections to 1927"
        ],
    ),
    (
        "memory for the processes alone",
        settings(),
        1,
        replace(AMPLE, memory_bytes=64 * MIB),
        ["set the container's memory limit (memory.max) to 391 MiB"],
    ),
    # The memory limit of the reference deployment, and the connections of the example.
    (
        "a small container",
        settings(max_connections=1000),
        1,
        replace(AMPLE, memory_bytes=256 * MIB),
        [],
    ),
]


@pytest.mark.parametrize(
    ("wanted", "workers", "host", "hints"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_each_shortage_comes_with_the_command_that_ends_it(
    wanted: Settings, workers: int, host: Host, hints: list[str]
) -> None:
    assert [shortage.hint for shortage in shortages(wanted, workers, host)] == hints


def test_all_shortages_are_found_at_once() -> None:
    poor = Host(
        descriptors=256,
        somaxconn=10,
        syncookies=0,
        syn_backlog=10,
        conntrack_max=10,
        tcp_mem=(1, 2, 3),
        tcp_rmem=(1, 1, 1),
        tcp_wmem=(1, 1, 1),
        memory_bytes=1,
    )
    found = shortages(settings(), 2, poor)
    assert len({shortage.event for shortage in found}) == 7
    assert all(shortage.fields for shortage in found)


@given(st.integers(1, 1_000_000), st.integers(1, 64))
def test_fullest_worker_has_its_share_and_never_more_than_all(clients: int, workers: int) -> None:
    assert clients / workers <= fullest(clients, workers) <= clients


@given(st.integers(1, 200_000), st.integers(1, 64))
def test_the_advised_limit_is_enough(clients: int, workers: int) -> None:
    wanted = settings(max_connections=clients)
    enough = replace(AMPLE, descriptors=fullest(clients, workers) + OTHER_DESCRIPTORS)
    assert not any(
        "descriptors" in shortage.event for shortage in shortages(wanted, workers, enough)
    )
