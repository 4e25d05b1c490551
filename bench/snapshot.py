"""Snapshots: the memory that the newest records of all keys take, and the time.

    python -m bench.snapshot                       a million keys, frames of 440 bytes
    python -m bench.snapshot --keys N --bytes N
    python -m bench.snapshot --only service        the consumer of a service that reads as many, and
                                                   20,000 clients that connect together and get the
                                                   snapshots of three keys each

`table` is measured in this process. Exits with status 1 if a client's snapshot was not that of its
keys.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import psutil
from confluent_kafka import Producer

from bench.kit.crowds import descriptor_limit, generators, merge
from bench.kit.load import CLIENTS_PER_ADDRESS, Load
from bench.kit.measuring import measured, percentile
from bench.kit.results import arguments, save
from bench.kit.service import PATIENCE_SECONDS, TOPIC, MeasuredService
from energyws.protocol.frame import DataFrames
from energyws.stream.last_values import LastValues
from energyws.testing import BrokerProcess, eventually, token

MIB: Final = 1 << 20
# The embedded broker keeps 5 MiB of a partition.
RECORDS_PER_PARTITION: Final = 8_000
# Of which three are one client's.
KEYS_PER_REQUEST: Final = 256
KEYS_OF_A_CLIENT: Final = 3
FIRST_KEY: Final = 735_999_000_000_000_000
EPOCH: Final = "7f3a90c2-123456789.123456789.123456789"
FRAMES: Final = DataFrames("energy")
_TOKEN_SECONDS: Final = 86_400


def main() -> int:
    parser = arguments(__doc__, keys=1_000_000, bytes=440, clients=20_000, workers=2)
    parser.add_argument("--only", choices=("table", "service"))
    options = parser.parse_args()
    frame = FRAMES.build(0, b"{}", EPOCH, key(0))
    padding = options.bytes - len(frame) - len(b'"n":12345678,"x":""')
    results: dict[str, Any] = {"keys": options.keys, "frame_bytes": options.bytes}
    if options.only != "service":
        results["table"] = _table(options.keys, padding, options.clients)
    if options.only != "table":
        results["service"] = _service(options, padding)
    for name, value_ in results.items():
        print(name, value_)
    save(options.out, results)
    wrong = results.get("service", {}).get("wrong", {})
    return 1 if any(wrong.values()) else 0


def _service(options: argparse.Namespace, padding: int) -> dict[str, Any]:
    count = options.keys
    partitions = -(-count // RECORDS_PER_PARTITION)
    with BrokerProcess({TOPIC: partitions}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 50})
        for number in range(count):
            record = value(number, padding)
            while True:
                try:
                    producer.produce(TOPIC, record, key(number), partition=number % partitions)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush(PATIENCE_SECONDS)
        snapshot = {
            "enabled": True,
            "max_keys": count,
            "max_bytes": 1 << 40,
            "lookback_seconds": None,
        }
        stream = {"topic": TOPIC, "key": "record", "access": "keyed", "snapshot": snapshot}
        with MeasuredService(
            options.workers, brokers=broker.bootstrap, streams={"energy": stream}
        ) as service:
            before = service.children()["consumer"].memory_info().rss
            eventually(
                lambda: service.boards()["consumer"]["snapshot_state"] == 2,
                "all records are read",
                PATIENCE_SECONDS,
            )
            board = service.boards()["consumer"]
            consumer = service.children()["consumer"]
            return {
                "warm_seconds": board["snapshot_warm_ms"] / 1000,
                "keys": board["snapshot_keys"],
                "consumer_mib": consumer.memory_info().rss / MIB,
                "consumer_mib_when_ready": before / MIB,
                "consumer_cpu_seconds": sum(consumer.cpu_times()[:2]),
                **_served(service, options.clients),
            }


def _served(service: MeasuredService, clients: int) -> dict[str, Any]:
    """All clients connect together, and get the newest record of each of their keys."""
    loads: list[Load] = []
    processes = service.processes()
    with ExitStack() as stack, measured(processes) as used:
        first = address = 0
        for share in generators(clients, descriptor_limit()):
            keys = range(first, first + share * KEYS_OF_A_CLIENT, KEYS_OF_A_CLIENT)
            load = Load(
                service.port,
                share,
                [_token(own) for own in keys],
                path="/ws/energy?subscribe=energy&snapshot=1",
                address=address,
                snapshot=KEYS_OF_A_CLIENT,
                first_key=FIRST_KEY + first,
            )
            stack.callback(load.close)
            loads.append(load)
            first += share * KEYS_OF_A_CLIENT
            address += math.ceil(share / CLIENTS_PER_ADDRESS)
        for load in loads:
            load.ready()
        counts = merge([load.counts() for load in loads])
        ended = list(itertools.chain(*(load.times()["caught_up"] for load in loads)))
    return {
        "clients": clients,
        "keys_of_a_client": KEYS_OF_A_CLIENT,
        "snapshots": counts["frames"],
        "served_seconds": max(ended) / 1e6,
        "served_seconds_p50": percentile(ended, 0.5) / 1e6,
        "wrong": {name: counts[name] for name in ("gaps", "duplicates", "foreign", "closed")},
        "cpu_seconds": {name: round(seconds, 3) for name, seconds in used.items()},
    }


def _token(first: int) -> str:
    own = [key(number).decode() for number in range(first, first + KEYS_OF_A_CLIENT)]
    return token(f"bench-{first}", _TOKEN_SECONDS, keys=own)


def _table(count: int, padding: int, clients: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    before = psutil.Process().memory_info().rss
    table = LastValues(count, 1 << 50)
    with timed("old_record_us", count, results):
        for number in range(count):
            table.put_old(key(number), number, value(number, padding), 0, read_back=False)
    results["mib_until_warm"] = (psutil.Process().memory_info().rss - before) / MIB
    table.warmed(None)
    after = psutil.Process().memory_info().rss - before
    results |= {"mib": after / MIB, "bytes_per_key": after / count}
    results["mib_by_its_own_account"] = table.bytes / MIB

    rng = random.Random(1)
    changes = [(key(rng.randrange(count)), value(n, padding)) for n in range(200_000)]
    with timed("live_record_us", len(changes), results):
        for at, (changed, data) in enumerate(changes):
            table.put(changed, at, data)
    del changes

    wanted = [key(rng.randrange(count)) for _ in range(clients * KEYS_OF_A_CLIENT)]
    with timed("value_of_a_client_us", len(wanted), results):
        for begin in range(0, len(wanted), KEYS_PER_REQUEST):
            found = [table.find(each) for each in wanted[begin : begin + KEYS_PER_REQUEST]]
            b"".join(FRAMES.snapshot(*each) for each in found if each is not None)
    slot: int | None = 0
    with timed("value_in_a_scan_us", count, results):
        while slot is not None:
            scanned = table.scan(slot, table.changes, None, 2_000, 128 * 1024)
            b"".join(FRAMES.snapshot(*each) for each in scanned.values)
            slot = scanned.next_slot
    return results


def key(number: int) -> bytes:
    return b"%018d" % (FIRST_KEY + number)


def value(number: int, padding: int) -> bytes:
    # As many digits for each.
    return b'{"n":%d,"x":"%b"}' % (10_000_000 + number, b"x" * padding)


@contextmanager
def timed(what: str, count: int, into: dict[str, Any]) -> Iterator[None]:
    """CPU microseconds of each of `count`."""
    began = time.process_time()
    yield
    into[what] = (time.process_time() - began) / count * 1e6


if __name__ == "__main__":
    sys.exit(main())
