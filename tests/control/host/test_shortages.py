"""What is asked for against what there is; and the figures behind it against the measured ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.control.host import memory
from energyws.control.host.facts import Host, memory_limit, read_host
from energyws.control.host.shortages import OTHER_DESCRIPTORS, fullest, shortages
from energyws.settings import MIB, History, Kafka, Server, Settings, Tls

RESULTS = Path(__file__).parents[3] / "bench" / "results"
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
    cores=4,
    memory_bytes=8 << 30,
)


def settings(**server: object) -> Settings:
    return Settings(kafka=KAFKA, server=Server(**server))  # type: ignore[arg-type]


CASES: list[tuple[str, Settings, int, Host, list[str]]] = [
    ("enough", settings(), 4, AMPLE, []),
    ("nobody tells", settings(max_connections=10**9), 1, Host(), []),
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
        "more than the kernel lets anybody have",
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
    # The limit of today's deployment, and the connections of the example.
    (
        "a small container",
        settings(max_connections=1000),
        1,
        replace(AMPLE, memory_bytes=256 * MIB),
        [],
    ),
]


@pytest.mark.parametrize(
    ("asked", "workers", "host", "hints"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_is_short_is_told_with_what_mends_it(
    asked: Settings, workers: int, host: Host, hints: list[str]
) -> None:
    assert [doubt.hint for doubt in shortages(asked, workers, host)] == hints


def test_everything_that_is_short_is_told_at_once() -> None:
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
    assert len({doubt.event for doubt in found}) == 7
    assert all(doubt.fields for doubt in found)


@given(st.integers(1, 1_000_000), st.integers(1, 64))
def test_fullest_worker_has_its_share_and_never_more_than_all(clients: int, workers: int) -> None:
    assert clients / workers <= fullest(clients, workers) <= clients


@given(st.integers(1, 200_000), st.integers(1, 64))
def test_what_is_advised_is_enough(clients: int, workers: int) -> None:
    asked = settings(max_connections=clients)
    enough = replace(AMPLE, descriptors=fullest(clients, workers) + OTHER_DESCRIPTORS)
    assert not any("descriptors" in doubt.event for doubt in shortages(asked, workers, enough))


def test_memory_is_that_of_processes_rings_and_connections() -> None:
    small = replace(settings(max_connections=100), history=History(max_bytes=MIB))
    one, two = memory.needed(small, 1), memory.needed(small, 2)
    assert two.processes - one.processes == memory.WORKER_BYTES
    assert (one.rings, two.rings) == (2 * MIB, 3 * MIB)
    assert one.connections == 100 * memory.PLAIN_BYTES
    tls = replace(small, server=replace(small.server, tls=Tls(cert="c", key="k")))
    assert memory.needed(tls, 1).connections == 100 * memory.TLS_BYTES
    plain = replace(small, server=replace(small.server, compression=False))
    assert one.buffers - memory.needed(plain, 1).buffers == memory.COMPRESSED_BYTES


def measured(bench: str) -> dict[str, dict[str, dict[str, float]]]:
    results: dict[str, dict[str, dict[str, float]]] = orjson.loads(
        (RESULTS / f"{bench}.json").read_bytes()
    )["results"]
    return results


@pytest.mark.parametrize(
    ("process", "allowed"),
    [
        ("supervisor", memory.SUPERVISOR_BYTES),
        ("consumer", memory.CONSUMER_BYTES),
        ("worker-0", memory.WORKER_BYTES),
    ],
)
def test_processes_are_reckoned_with_as_they_were_measured(process: str, allowed: int) -> None:
    rss = orjson.loads((RESULTS / "idle.json").read_bytes())["results"][process]["rss_mib"] * MIB
    assert rss <= allowed <= 1.25 * rss


@pytest.mark.parametrize(
    ("kind", "allowed"), [("plain", memory.PLAIN_BYTES), ("tls", memory.TLS_BYTES)]
)
def test_connections_are_reckoned_with_as_they_were_measured(kind: str, allowed: int) -> None:
    row = measured("memory")[kind]["burst"]
    each = row["rss"] + row["kernel_slab"] + max(0.0, row["kernel_tcp"])
    assert each <= allowed <= 1.25 * each


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, 1000),
        ("0::/\n", {"memory.max": "max\n"}, 1000),
        ("0::/\n", {"memory.max": "500\n"}, 500),
        ("0::/a/b\n", {"a/memory.max": "300\n", "a/b/memory.max": "400\n"}, 300),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "200\n"}, 200),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, 1000),
        ("4:cpu:/x\n", {"memory/x/memory.limit_in_bytes": "200\n"}, 1000),
        ("nonsense", {"memory.max": "much\n"}, 1000),
    ],
)
def test_memory_limit_is_the_tightest(
    tmp_path: Path, membership: str, files: dict[str, str], expected: int
) -> None:
    for name, text in files.items():
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "cgroup").write_text(membership)
    assert memory_limit(tmp_path / "sys", tmp_path / "cgroup", 1000) == expected


def test_host_is_read_from_what_the_kernel_shows(tmp_path: Path) -> None:
    for name, text in {
        "fs/nr_open": "1048576\n",
        "net/core/somaxconn": "4096\n",
        "net/ipv4/tcp_syncookies": "1\n",
        "net/ipv4/tcp_max_syn_backlog": "512\n",
        "net/ipv4/tcp_mem": "1\t2\t3\n",
        "net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
        "net/ipv4/tcp_wmem": "broken\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    host = read_host(tmp_path, tmp_path, tmp_path / "missing")
    assert (host.nr_open, host.somaxconn, host.syncookies, host.syn_backlog) == (
        *(1_048_576, 4096, 1, 512),
    )
    assert (host.tcp_mem, host.tcp_rmem, host.tcp_wmem) == (
        (1, 2, 3),
        (4096, 131_072, 6_291_456),
        None,
    )
    assert (host.conntrack_max, host.conntrack_count) == (None, None)


def test_this_machine_can_be_read() -> None:
    host = read_host()
    assert host.somaxconn is not None
    assert host.cores >= 1
    assert host.memory_bytes is not None
