"""The delay from the broker's append to the client, by fetch settings; the consumer's ceiling.

    python -m bench.delay --broker kafka --rounds 2

In each round, each of SETTINGS gets its own service with the same clients, at each rate in turn. On
a real Kafka, records have the time at which they were appended to the log (LogAppendTime), and the
delay starts then; it is rounded down to milliseconds, which is corrected on average. The embedded
broker has no such time: there the delay starts when the record is passed to the producer. Both are
in the results, as `append` and `write`.

The ceiling: the consumer is stopped, records are written, and the consumer is continued; measured
is how fast it reads, checks, frames and publishes them to one worker without clients.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import time
from typing import Any, Final

from confluent_kafka import Producer

from bench.kit.brokers import KINDS, open_broker
from bench.kit.load import Load
from bench.kit.measuring import cpu_seconds, measured, medians, summary
from bench.kit.record import PARTITIONS, RealRecords
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer
from energyws.testing import Broker, ExternalBroker, eventually

# Alternatives to the settings in workers.consumer.source; see librdkafka's CONFIGURATION.md.
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "as shipped": {},
    "fetch.wait.max.ms 100": {"fetch.wait.max.ms": 100},
    "fetch.wait.max.ms 10": {"fetch.wait.max.ms": 10},
    "fetch.wait.max.ms 1": {"fetch.wait.max.ms": 1},
    "fetch.min.bytes 1000": {"fetch.min.bytes": 1000},
    "fetch.queue.backoff.ms 1000": {"fetch.queue.backoff.ms": 1000},
    "fetch.queue.backoff.ms 10": {"fetch.queue.backoff.ms": 10},
    "fetch.queue.backoff.ms 1": {"fetch.queue.backoff.ms": 1},
    "queued.min.messages 1000": {"queued.min.messages": 1000},
}
IDLE_SECONDS: Final = 5.0
LISTENERS: Final = 10
LEAST_RECORDS: Final = 20
CEILING_RECORDS: Final = 200_000
# Long enough that the supervisor does not replace the stopped consumer.
PATIENT: Final = {"hang_seconds": 600, "starved_seconds": 600}
_DEADLINE_SECONDS: Final = 120.0
_topics = itertools.count()


def open_topic(broker: Broker) -> str:
    """A new topic; its records have their append time if the broker supports that."""
    name = f"bench-{os.getpid()}-{next(_topics)}"
    if isinstance(broker, ExternalBroker):
        broker.create_topic(name, PARTITIONS, {"message.timestamp.type": "LogAppendTime"})
    else:
        broker.create_topic(name, PARTITIONS)
    return name


def served(broker: Broker, topic: str, options: dict[str, Any], **sections: Any) -> MeasuredService:
    """A service with one worker on that topic."""
    kafka = {"topic": topic, "options": {**broker.consumer_options, **options}}
    return MeasuredService(1, brokers=broker.bootstrap, kafka=kafka, **sections)


def setting(broker: Broker, options: dict[str, Any], chosen: argparse.Namespace) -> dict[str, Any]:
    """One service: its consumer at rest, then at each rate."""
    topic = open_topic(broker)
    with (
        served(broker, topic, options) as service,
        service.load(chosen.clients - LISTENERS),
        Load(service.port, LISTENERS, service.token, sample=1, stamps=True) as listeners,
    ):
        return _measure(service, broker, topic, listeners, chosen)


def _measure(
    service: MeasuredService,
    broker: Broker,
    topic: str,
    listeners: Load,
    chosen: argparse.Namespace,
) -> dict[str, Any]:
    consumer = service.processes()["consumer"]
    writer = Writer(broker.bootstrap, RealRecords().build, topic=topic)
    # The first records are slower, until connections and caches are set up.
    writer.write(20, 1)
    before = cpu_seconds(consumer)
    time.sleep(IDLE_SECONDS)
    idle = (cpu_seconds(consumer) - before) / IDLE_SECONDS
    rows: dict[str, Any] = {"idle_share_of_a_core": round(idle, 4)}
    for rate in chosen.rate:
        seconds = max(chosen.seconds, LEAST_RECORDS / rate)
        listeners.counts(restart=True)
        before = cpu_seconds(consumer)
        count = writer.write(rate, seconds)
        counts = listeners.all_have(writer.sent)
        used = cpu_seconds(consumer) - before
        rows[f"{rate:g}/s"] = {
            "write_ms": summary(counts["delays"]),
            # Only records of a real broker have their append time.
            **(
                {"append_ms": summary(counts["delays_from_stamp"])}
                if isinstance(broker, ExternalBroker)
                else {}
            ),
            "consumer_share_of_a_core": round(used / seconds, 4),
            "consumer_us_per_record": round(used / count * 1e6, 1),
        }
    return rows


def ceiling(broker: Broker, options: dict[str, Any], records: int) -> dict[str, Any]:
    """How fast a stopped consumer works off `records` records of the real size once continued."""
    topic = open_topic(broker)
    with served(broker, topic, options, supervision=PATIENT) as service:
        processes = service.processes()
        consumer = processes["consumer"]
        consumer.send_signal(signal.SIGSTOP)
        try:
            size = _fill(broker.bootstrap, topic, records)
        finally:
            consumer.send_signal(signal.SIGCONT)
        began = time.monotonic()
        with measured(processes) as used:
            eventually(
                lambda: service.boards()["consumer"]["frames"] >= records,
                "the consumer has every record",
                _DEADLINE_SECONDS,
            )
        seconds = time.monotonic() - began
        return {
            "records": records,
            "record_bytes": round(size / records),
            "records_per_second": round(records / seconds),
            "mb_per_second": round(size / seconds / 1e6, 1),
            "consumer_us_per_record": round(used["consumer"] / records * 1e6, 2),
            "consumer_share_of_a_core": round(used["consumer"] / seconds, 2),
            "worker_us_per_record": round(used["worker-0"] / records * 1e6, 2),
        }


def _fill(bootstrap: str, topic: str, records: int) -> int:
    """Write as fast as the broker accepts; the number of bytes written."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    build = RealRecords().build
    size = 0
    for count in range(records):
        number, partition = divmod(count, PARTITIONS)
        record = build(partition, number)
        size += len(record)
        while True:
            try:
                producer.produce(topic, record, partition=partition)
                break
            except BufferError:
                producer.poll(0.05)
    assert producer.flush(_DEADLINE_SECONDS) == 0, "records were not acknowledged"
    return size


def main() -> int:
    parser = arguments(__doc__, clients=100, rounds=1)
    parser.add_argument("--broker", choices=KINDS, action="append", help="default: both")
    parser.add_argument("--rate", type=float, action="append", help="default: 1, 100 and 1,000")
    parser.add_argument("--seconds", type=float, default=5, help="minimum per rate")
    parser.add_argument("--setting", choices=list(SETTINGS), action="append", help="default: all")
    parser.add_argument("--records", type=int, default=CEILING_RECORDS, help="0: no ceiling")
    chosen = parser.parse_args()
    chosen.rate = chosen.rate or [1, 100, 1000]
    names = chosen.setting or list(SETTINGS)
    results: dict[str, Any] = {"clients": chosen.clients, "delay": {}, "ceiling": {}}
    for kind in chosen.broker or KINDS:
        with open_broker(kind) as broker:
            rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            ceilings: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for _ in range(chosen.rounds):
                for name in names:
                    if chosen.clients > LISTENERS:
                        rounds[name].append(setting(broker, SETTINGS[name], chosen))
                        print(kind, name, rounds[name][-1], flush=True)
                    # The embedded broker retains too few records.
                    if chosen.records and kind != "embedded":
                        ceilings[name].append(ceiling(broker, SETTINGS[name], chosen.records))
                        print(kind, name, ceilings[name][-1], flush=True)
            results["delay"][kind] = {name: medians(row, 4) for name, row in rounds.items() if row}
            if any(ceilings.values()):
                results["ceiling"] = {name: medians(row, 4) for name, row in ceilings.items()}
    save(chosen.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
