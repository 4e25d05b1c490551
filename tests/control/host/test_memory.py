"""The memory estimate, and its figures against the measured ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from energyws.control.host import memory
from energyws.protocol.deflate import WINDOW_BYTES
from energyws.settings import KIB, MIB, History, Kafka, Server, Settings, Tls
from workers.websocket.clients.last import MOST_BYTES
from workers.websocket.connection.accepted import RECEIVE_BYTES
from workers.websocket.fanout.live import JOIN_BYTES

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


def test_what_one_client_can_hold_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "sizing.md").read_text()
    settings = Settings(kafka=KAFKA)
    assert (
        f"With the defaults that is {memory.pinned_bytes(settings) // KIB:,} KiB without TLS."
        in page
    )
    unlimited = replace(settings, server=replace(settings.server, send_buffer_bytes=None))
    assert memory.pinned_bytes(unlimited) > 4 * MIB
    rows = dict(re.findall(r"\| (?!what \||-)([^|]+) \| ([^|]+) \|\n", section(page)))
    assert f"{memory.WRITE_BYTES // KIB} KiB" in rows["what its worker has yet to write"]
    assert rows["an answer of `/last`"].startswith(f"{memory.ANSWER_BYTES // MIB} MiB")
    assert rows["text that compressed messages may refer to"].startswith(
        f"{WINDOW_BYTES // KIB} KiB"
    )
    assert rows["what the worker has yet to read"] == f"{memory.RECEIVED_BYTES // KIB} KiB"
    for each in (memory.PLAIN_BYTES, memory.TLS_BYTES, memory.TLS_BYTES_3_5):
        assert f"{each // KIB} KiB" in rows["the connection"]


def section(page: str) -> str:
    return page.partition("#### What one client can hold")[2].partition("\n#")[0]


def test_figures_are_those_of_the_worker() -> None:
    assert memory.WRITE_BYTES == JOIN_BYTES
    assert memory.ANSWER_BYTES == MOST_BYTES
    assert memory.RECEIVED_BYTES == 2 * RECEIVE_BYTES


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
