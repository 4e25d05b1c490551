"""The cost of each replica for the broker: connections, bytes and CPU, at rest and under traffic.

    python -m bench.replicas --replicas 3 --rate 20

One to N services with one worker each read the same topic, each as its own group. Bytes are the TCP
payload in both directions, as the kernel counts it for each connection (tcp_info, read with `ss` of
iproute2); they include fetches, responses, commits and metadata.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import psutil

from bench.kit.brokers import KINDS, open_broker
from bench.kit.measuring import cpu_seconds
from bench.kit.record import PARTITIONS, padded
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer
from energyws.testing import Broker

SETTLE_SECONDS: Final = 3.0
_PID: Final = re.compile(r"pid=(\d+)")
_SENT: Final = re.compile(r"bytes_sent:(\d+)")
_RECEIVED: Final = re.compile(r"bytes_received:(\d+)")


@dataclass(frozen=True)
class Traffic:
    """A process's connections to one address, and the bytes they transferred so far."""

    connections: int
    sent: int
    received: int


def parse(text: str, pid: int) -> Traffic:
    """A process's part of `ss --tcp --info --processes --no-header`: two lines per connection."""
    lines = text.splitlines()
    found = [
        info
        for socket, info in zip(lines[::2], lines[1::2], strict=True)
        if str(pid) in _PID.findall(socket)
    ]

    def total(pattern: re.Pattern[str]) -> int:
        # A connection that has not sent anything yet has no such field.
        return sum(int(match[1]) for info in found if (match := pattern.search(info)))

    return Traffic(len(found), total(_SENT), total(_RECEIVED))


def traffic(pid: int, port: int) -> Traffic:
    """The traffic of a process's connections to a port of this machine."""
    command = ["ss", "--tcp", "--info", "--processes", "--no-header", "--numeric"]
    command += ["state", "established", "dst", f"127.0.0.1:{port}"]
    return parse(subprocess.run(command, check=True, capture_output=True, text=True).stdout, pid)


def run(
    broker: Broker, replicas: int, topic: str, rate: float, options: argparse.Namespace
) -> dict[str, Any]:
    """A row of the table: figures per replica and second."""
    port = int(broker.bootstrap.rpartition(":")[2])
    assert broker.pid is not None, "the broker must be on this machine"
    process = psutil.Process(broker.pid)
    with ExitStack() as stack:
        services = [
            stack.enter_context(
                MeasuredService(
                    1,
                    brokers=broker.bootstrap,
                    kafka={"topic": topic, "group_id": f"r{n}", "options": broker.consumer_options},
                )
            )
            for n in range(replicas)
        ]
        consumers = [service.processes()["consumer"].pid for service in services]
        writer = Writer(broker.bootstrap, lambda p, n: padded(p, n, options.bytes), topic=topic)
        writer.write(rate, SETTLE_SECONDS)
        before = [traffic(pid, port) for pid in consumers]
        busy, began = cpu_seconds(process), time.monotonic()
        writer.write(rate, options.seconds)
        took = time.monotonic() - began
        cores = (cpu_seconds(process) - busy) / took
        after = [traffic(pid, port) for pid in consumers]
    each = replicas * took
    return {
        "replicas": replicas,
        "records_per_second": rate,
        "connections": max(found.connections for found in after),
        "received_per_second": round(sum(f.received for f in _since(after, before)) / each),
        "sent_per_second": round(sum(f.sent for f in _since(after, before)) / each),
        "broker_cores": round(cores, 4),
    }


def _since(after: list[Traffic], before: list[Traffic]) -> list[Traffic]:
    return [
        Traffic(a.connections, a.sent - b.sent, a.received - b.received)
        for a, b in zip(after, before, strict=True)
    ]


def main() -> int:
    parser = arguments(__doc__, rate=20.0, bytes=1138)
    parser.add_argument("--replicas", type=int, default=3, help="from one to N")
    parser.add_argument("--seconds", type=float, default=10, help="of each row")
    parser.add_argument("--broker", choices=KINDS, default="kafka")
    options = parser.parse_args()
    rows = []
    with open_broker(options.broker) as broker:
        topic = f"replicas-{os.getpid()}"
        broker.create_topic(topic, PARTITIONS)
        for replicas in range(1, options.replicas + 1):
            for rate in (0.0, options.rate):
                rows.append(run(broker, replicas, topic, rate, options))
                print(rows[-1], flush=True)
    results = {"broker": options.broker, "bytes": options.bytes, "rows": rows}
    save(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
