"""Snapshots: the memory that the newest records of all keys take, and the time.

    python -m bench.snapshot                       a million keys, frames of 440 bytes
    python -m bench.snapshot --keys N --bytes N
    python -m bench.snapshot --service             the consumer of a service that reads as many

Without --service, it measures the table in this process, with CPU time.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psutil
from confluent_kafka import Producer

from bench.kit.service import PATIENCE_SECONDS, TOPIC, MeasuredService
from energyws.protocol.frame import DataFrames
from energyws.stream.last_values import LastValues
from energyws.testing import BrokerProcess, eventually

MIB: Final = 1 << 20
# The embedded broker keeps 5 MiB of a partition.
RECORDS_PER_PARTITION: Final = 8_000
# Of which three are one client's.
KEYS_PER_REQUEST: Final = 256
CLIENTS: Final = 20_000
KEYS_OF_A_CLIENT: Final = 3
EPOCH: Final = "7f3a90c2-123456789.123456789.123456789"
FRAMES: Final = DataFrames("energy")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.snapshot", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=440, help="of a frame")
    parser.add_argument("--service", action="store_true")
    options = parser.parse_args()
    frame = FRAMES.build(0, b"{}", EPOCH, key(0))
    padding = options.bytes - len(frame) - len(b'"n":12345678,"x":""')
    print(f"{options.keys:,} keys, frames of about {options.bytes} bytes")
    (_service if options.service else _table)(options.keys, padding)
    return 0


def _service(count: int, padding: int) -> None:
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
        streams = {"energy": {"topic": TOPIC, "key": "record", "snapshot": snapshot}}
        with MeasuredService(1, brokers=broker.bootstrap, streams=streams) as service:
            before = service.children()["consumer"].memory_info().rss
            eventually(
                lambda: service.boards()["consumer"]["snapshot_state"] == 2,
                "all records are read",
                PATIENCE_SECONDS,
            )
            board = service.boards()["consumer"]
            consumer = service.children()["consumer"]
            memory = consumer.memory_info()
            print(
                f"warm after {board['snapshot_warm_ms'] / 1000:.1f} s with "
                f"{board['snapshot_keys']:,} keys; consumer: {memory.rss / MIB:.0f} MiB, "
                f"{before / MIB:.0f} when it was ready; CPU {sum(consumer.cpu_times()[:2]):.1f} s"
            )


def _table(count: int, padding: int) -> None:
    before = psutil.Process().memory_info().rss
    table = LastValues(count, 1 << 50)
    with timed("an old record", count):
        for number in range(count):
            table.put_old(key(number), number, value(number, padding), 0, read_back=False)
    full = psutil.Process().memory_info().rss - before
    table.warmed(None)
    after = psutil.Process().memory_info().rss - before
    print(f"memory: {after / MIB:.0f} MiB, until it is warm {full / MIB:.0f} MiB; ", end="")
    print(f"{after / count:.0f} bytes a key; it says {table.bytes / MIB:.0f} MiB")

    rng = random.Random(1)
    changes = [(key(rng.randrange(count)), value(n, padding)) for n in range(200_000)]
    with timed("a live record", len(changes)):
        for at, (changed, data) in enumerate(changes):
            table.put(changed, at, data)
    del changes
    again = psutil.Process().memory_info().rss - before
    print(f"memory after those: {again / MIB:.0f} MiB")

    wanted = [key(rng.randrange(count)) for _ in range(CLIENTS * KEYS_OF_A_CLIENT)]
    with timed(f"a value for one of {CLIENTS:,} clients with 3 keys", len(wanted)):
        for begin in range(0, len(wanted), KEYS_PER_REQUEST):
            found = [table.find(each) for each in wanted[begin : begin + KEYS_PER_REQUEST]]
            b"".join(FRAMES.snapshot(*each) for each in found if each is not None)
    slot: int | None = 0
    with timed("a value in a scan of all", count):
        while slot is not None:
            scanned = table.scan(slot, table.changes, None, 2_000, 128 * 1024)
            b"".join(FRAMES.snapshot(*each) for each in scanned.values)
            slot = scanned.next_slot


def key(number: int) -> bytes:
    return b"%018d" % (735_999_000_000_000_000 + number)


def value(number: int, padding: int) -> bytes:
    # As many digits for each.
    return b'{"n":%d,"x":"%b"}' % (10_000_000 + number, b"x" * padding)


@contextmanager
def timed(what: str, count: int) -> Iterator[None]:
    began = time.process_time()
    yield
    seconds = time.process_time() - began
    print(f"{what}: {seconds / count * 1e6:.2f} us of CPU time, {seconds:.2f} s in all")


if __name__ == "__main__":
    sys.exit(main())
