"""The memory estimate, and its figures against the measured ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from energyws.control.host import memory
from energyws.settings import MIB, History, Kafka, Server, Settings, Tls

RESULTS = Path(__file__).parents[3] / "bench" / "results"
KAFKA = Kafka(brokers="b:9092", topic="t")


def test_memory_adds_up_processes_rings_and_connections() -> None:
    server, history = Server(max_connections=100), History(max_bytes=MIB)
    small = Settings(kafka=KAFKA, server=server, history=history)
    one, two = memory.needed(small, 1), memory.needed(small, 2)
    assert two.processes - one.processes == memory.WORKER_BYTES
    assert (one.rings, two.rings) == (2 * MIB, 3 * MIB)
    assert one.connections == 100 * memory.PLAIN_BYTES
    tls = replace(small, server=replace(small.server, tls=Tls(cert="c", key="k")))
    assert memory.needed(tls, 1, (3, 0, 19)).connections == 100 * memory.TLS_BYTES
    assert memory.needed(tls, 1, (3, 5, 0)).connections == 100 * memory.TLS_BYTES_3_5
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
def test_estimate_of_processes_agrees_with_the_measurements(process: str, allowed: int) -> None:
    rss = orjson.loads((RESULTS / "idle.json").read_bytes())["results"][process]["rss_mib"] * MIB
    assert rss <= allowed <= 1.25 * rss


@pytest.mark.parametrize(
    ("kind", "allowed"), [("plain", memory.PLAIN_BYTES), ("tls", memory.TLS_BYTES)]
)
def test_estimate_of_connections_agrees_with_the_measurements(kind: str, allowed: int) -> None:
    row = measured("memory")[kind]["burst"]
    each = row["rss"] + row["kernel_slab"] + max(0.0, row["kernel_tcp"])
    assert each <= allowed <= 1.25 * each
