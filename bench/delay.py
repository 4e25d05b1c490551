"""From the broker's append to the client's socket, by fetch settings; and the consumer's ceiling.

    python -m bench.delay --broker kafka --rounds 2

Each of SETTINGS gets a service of its own with the same clients, at each rate in turn, and again
in each round. On a real Kafka the topic's records bear the time at which the log took them
(LogAppendTime), and that is where a delay begins; its milliseconds are rounded down, which is
corrected on average. The embedded broker has no such time: there a delay begins when the record
is handed to the producer. Both are in the results, as `append` and `write`.

The ceiling: the consumer is stopped, records are written, it goes on; how fast it reads, checks,
frames and publishes all of them to one worker that has no clients.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import statistics
import sys
import time
import urllib.request
from typing import Any, Final

import orjson
from confluent_kafka import Producer

from bench.broker import KINDS, Broker, open_broker
from bench.observer import Observers
from bench.record import PARTITIONS, RealRecords
from bench.service import Service, Usage, Writer, percentile, report

# What is tried instead of what workers.consumer.source sets; see librdkafka's CONFIGURATION.md.
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
OBSERVERS: Final = 10
LEAST_RECORDS: Final = 20
CEILING_RECORDS: Final = 200_000
# Long enough for a consumer that is stopped on purpose.
PATIENT: Final = {"hang_seconds": 600, "starved_seconds": 600}
_DEADLINE_SECONDS: Final = 120.0
_topics = itertools.count()


def summary(delays: list[int]) -> dict[str, float]:
    """Mean, median, p99 and maximum in milliseconds, of microseconds."""
    found = {"mean": statistics.fmean(delays) / 1000} if delays else {"mean": float("nan")}
    found |= {f"p{p:g}": percentile(delays, p / 100) / 1000 for p in (50, 99)}
    return {name: round(value, 2) for name, value in found.items()} | {
        "max": round(max(delays, default=0) / 1000, 2)
    }


def open_topic(broker: Broker, *, append_time: bool = True) -> str:
    """A topic that nobody has used."""
    name = f"bench-{os.getpid()}-{next(_topics)}"
    broker.create_topic(name, PARTITIONS, append_time=append_time)
    return name


def served(broker: Broker, topic: str, options: dict[str, Any], **sections: Any) -> Service:
    """A service with one worker on that topic."""
    kafka = {"topic": topic, "options": {**broker.options, **options}}
    return Service(1, brokers=broker.bootstrap, kafka=kafka, **sections)


def setting(
    broker: Broker, options: dict[str, Any], arguments: argparse.Namespace
) -> dict[str, Any]:
    """One service: its consumer at rest, then each rate."""
    topic = open_topic(broker)
    with served(broker, topic, options) as service:
        load = service.load(arguments.clients - OBSERVERS)
        try:
            with Observers(service, OBSERVERS) as observers:
                return _measure(service, broker, topic, observers, arguments)
        finally:
            load.close()


def _measure(
    service: Service,
    broker: Broker,
    topic: str,
    observers: Observers,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    consumer = service.processes()["consumer"]
    writer = Writer(broker.bootstrap, RealRecords().build, topic=topic)
    # The first records pay for connections and caches.
    writer.write(20, 1)
    before = Usage.of(consumer)
    time.sleep(IDLE_SECONDS)
    idle = Usage.of(consumer).since(before).total / IDLE_SECONDS
    observers.delays()
    rows: dict[str, Any] = {"idle_share_of_a_core": round(idle, 4)}
    for rate in arguments.rate:
        seconds = max(arguments.seconds, LEAST_RECORDS / rate)
        before = Usage.of(consumer)
        count = writer.write(rate, seconds)
        delays: dict[str, list[int]] = {"from_write": [], "from_record": []}
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while len(delays["from_write"]) < count * OBSERVERS:
            assert time.monotonic() < deadline, "frames are missing"
            time.sleep(0.1)
            for name, values in observers.delays().items():
                delays[name] += values
        used = Usage.of(consumer).since(before).total
        rows[f"{rate:g}/s"] = {
            "write_ms": summary(delays["from_write"]),
            # Only a real broker's records say when they were appended.
            **({"append_ms": summary(delays["from_record"])} if broker.kind != "embedded" else {}),
            "consumer_share_of_a_core": round(used / seconds, 4),
            "consumer_us_per_record": round(used / count * 1e6, 1),
        }
    return rows


def ceiling(broker: Broker, options: dict[str, Any], records: int) -> dict[str, Any]:
    """How fast a consumer that was away takes so many records of the real size."""
    topic = open_topic(broker)
    with served(broker, topic, options, supervision=PATIENT) as service:
        processes = service.processes()
        consumer = processes["consumer"]
        consumer.send_signal(signal.SIGSTOP)
        try:
            size = _fill(broker.bootstrap, topic, records)
            before = {name: Usage.of(process) for name, process in processes.items()}
        finally:
            consumer.send_signal(signal.SIGCONT)
        began = time.monotonic()
        deadline = began + _DEADLINE_SECONDS
        while _frames(service) < records:
            assert time.monotonic() < deadline, f"only {_frames(service)} of {records} records"
            time.sleep(0.02)
        seconds = time.monotonic() - began
        used = {name: Usage.of(process).since(before[name]) for name, process in processes.items()}
        return {
            "records": records,
            "record_bytes": round(size / records),
            "records_per_second": round(records / seconds),
            "mb_per_second": round(size / seconds / 1e6, 1),
            "consumer_us_per_record": round(used["consumer"].total / records * 1e6, 2),
            "consumer_share_of_a_core": round(used["consumer"].total / seconds, 2),
            "worker_us_per_record": round(used["worker-0"].total / records * 1e6, 2),
        }


def _fill(bootstrap: str, topic: str, records: int) -> int:
    """Write as fast as it goes; the bytes written."""
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


def _frames(service: Service) -> int:
    url = f"http://127.0.0.1:{service.admin_port}/workers"
    with urllib.request.urlopen(url, timeout=5) as answer:
        children = orjson.loads(answer.read())
    consumer = next(child for child in children if child["name"] == "consumer")
    return int(consumer["board"]["frames"])


def _merged(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure over the rounds."""
    first = rounds[0]
    return {
        name: _merged([each[name] for each in rounds])
        if isinstance(value, dict)
        else round(statistics.median(each[name] for each in rounds), 4)
        for name, value in first.items()
    }


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=KINDS, action="append", help="default: both")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rate", type=float, action="append", help="default: 1, 100 and 1,000")
    parser.add_argument("--seconds", type=float, default=5, help="of each rate, at least")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--setting", choices=list(SETTINGS), action="append", help="default: all")
    parser.add_argument("--records", type=int, default=CEILING_RECORDS, help="0: no ceiling")
    parser.add_argument("--out", help="write the results here, as JSON")
    arguments = parser.parse_args()
    arguments.rate = arguments.rate or [1, 100, 1000]
    names = arguments.setting or list(SETTINGS)
    results: dict[str, Any] = {"clients": arguments.clients, "delay": {}, "ceiling": {}}
    for kind in arguments.broker or KINDS:
        with open_broker(kind) as broker:
            rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            ceilings: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for _ in range(arguments.rounds):
                for name in names:
                    if arguments.clients > OBSERVERS:
                        rounds[name].append(setting(broker, SETTINGS[name], arguments))
                        print(kind, name, rounds[name][-1], flush=True)
                    # The embedded broker keeps too little of its log.
                    if arguments.records and kind != "embedded":
                        ceilings[name].append(ceiling(broker, SETTINGS[name], arguments.records))
                        print(kind, name, ceilings[name][-1], flush=True)
            results["delay"][kind] = {name: _merged(runs) for name, runs in rounds.items() if runs}
            if any(ceilings.values()):
                results["ceiling"] = {name: _merged(runs) for name, runs in ceilings.items()}
    report(arguments.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
