"""The real service as a process, and the broker behind it, for tests that want nothing less."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, Self

import orjson
import psutil
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]

from energyws.auth.verifier import mint
from energyws.testing.broker_process import BrokerProcess

SECRET: Final = "a-secret-of-more-than-thirty-two-bytes"
PARTITIONS: Final = 3
PATIENCE_SECONDS: Final = 30.0
# The embedded broker answers a waiting fetch only when its time is up.
FAST_FETCH: Final = {"fetch.wait.max.ms": 5}
_PORT: Final = re.compile(r"\bport\"?[=:]([0-9]+)")


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of `condition`; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)


class Broker(Protocol):
    """Where the tests' topics are."""

    bootstrap: str

    def create_topic(self, name: str, partitions: int = PARTITIONS) -> None:
        """Make a topic; returns when it can be used."""

    def delete_topic(self, name: str) -> None:
        """Delete a topic; returns when it is gone."""

    def trim(self, name: str, partition: int, low: int) -> None:
        """Remove the records of a partition below offset `low`, as retention does."""


class Embedded:
    """The embedded broker in a process of its own."""

    def __init__(self, process: BrokerProcess) -> None:
        self.process = process
        self.bootstrap = process.bootstrap

    def create_topic(self, name: str, partitions: int = PARTITIONS) -> None:
        self.process.call("create_topic", name=name, partitions=partitions)

    def delete_topic(self, name: str) -> None:
        self.process.call("delete_topic", name=name)

    def trim(self, name: str, partition: int, low: int) -> None:
        self.process.call("trim", topic=name, partition=partition, low_offset=low)


class Real:
    """A broker that somebody else runs."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    def create_topic(self, name: str, partitions: int = PARTITIONS) -> None:
        # A broker's default is 1 MiB for a batch; the embedded one has no such bound.
        config = {"max.message.bytes": "20000000"}
        topic = NewTopic(name, partitions, 1, config=config)
        self._admin.create_topics([topic])[name].result(30)
        eventually(
            lambda: (
                len(self._admin.list_topics(name, timeout=5).topics[name].partitions) == partitions
            ),
            f"topic {name} is there",
        )

    def delete_topic(self, name: str) -> None:
        self._admin.delete_topics([name])[name].result(30)
        eventually(
            lambda: self._admin.list_topics(name, timeout=5).topics[name].error is not None,
            f"topic {name} is gone",
        )

    def trim(self, name: str, partition: int, low: int) -> None:
        place = TopicPartition(name, partition, low)
        self._admin.delete_records([place])[place].result(30)

    def add_partitions(self, name: str, partitions: int) -> None:
        """Let a topic have so many partitions."""
        self._admin.create_partitions([NewPartitions(name, partitions)])[name].result(30)


@contextmanager
def any_broker() -> Iterator[Broker]:
    """The one that REDPANDA_BROKERS names, else an embedded one."""
    if brokers := os.environ.get("REDPANDA_BROKERS"):
        yield Real(brokers)
        return
    with BrokerProcess({}) as process:
        yield Embedded(process)


class Records:
    """Writes numbered records to a topic: `n` counts up over all partitions."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.sent = 0
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 0, "message.max.bytes": 20_000_000}
        )

    def send(self, count: int = 1, **fields: object) -> list[int]:
        """Write `count` records, round robin; returns their numbers once all are in the log."""
        numbers = list(range(self.sent, self.sent + count))
        for number in numbers:
            self.raw(orjson.dumps({"n": number, **fields}), number % PARTITIONS)
        self.sent += count
        self.flush()
        return numbers

    def raw(self, value: bytes | None, partition: int = 0) -> None:
        """Write any value at all; `flush` sees it into the log."""
        self._producer.produce(self.topic, value, partition=partition)

    def partitions(self) -> int:
        """How many partitions the producer knows of."""
        return len(self._producer.list_topics(self.topic, timeout=5).topics[self.topic].partitions)

    def flush(self) -> None:
        """Wait until everything is in the log."""
        left = self._producer.flush(PATIENCE_SECONDS)
        assert left == 0, f"{left} records were not acknowledged"


class Traffic:
    """Writes records at a steady rate from a thread until the block ends; `fields` go into each."""

    def __init__(self, records: Records, **fields: object) -> None:
        self._records = records
        self._fields = fields
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)

    def more(self, count: int) -> None:
        """Wait until so many further records are out."""
        target = self._records.sent + count
        eventually(lambda: self._records.sent >= target, f"{count} more records")

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            self._records.send(1, **self._fields)


class Service:
    """`energyws serve` with a configuration of its own; ports are free ones."""

    def __init__(
        self, directory: Path, config: dict[str, Any], *, descriptors: int | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.config_path = path = directory / "config.yaml"
        path.write_text(json.dumps(config))
        self.lines: list[str] = []
        command = [sys.executable, "-m", "energyws.cli", "serve", "--config", str(path)]
        if descriptors is not None:
            command = ["prlimit", f"--nofile={descriptors}", *command]
        self._process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            # A Ctrl-C at the test run is the test run's business.
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._tls = "tls" in config.get("server", {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line.rstrip("\n"))

    def logged(self, *parts: str) -> list[str]:
        """The log lines so far that hold all of these."""
        return [line for line in list(self.lines) if all(part in line for part in parts)]

    def wait_logged(self, *parts: str) -> str:
        """The first such line, once there is one."""

        def found() -> str | None:
            lines = self.logged(*parts)
            if not lines and self._process.poll() is not None:
                raise AssertionError("the service has ended:\n" + "\n".join(self.lines))
            return lines[0] if lines else None

        line: str = eventually(found, f"a log line with {parts}")
        return line

    @property
    def port(self) -> int:
        """Where clients connect."""
        lines = self.wait_logged("listening", "port") and self.logged("listening", "port")
        line = next(line for line in lines if "admin" not in line)
        match = _PORT.search(line)
        assert match is not None
        return int(match[1])

    @property
    def admin_port(self) -> int:
        """Where operators look."""
        match = _PORT.search(self.wait_logged("admin listening"))
        assert match is not None
        return int(match[1])

    @property
    def url(self) -> str:
        """The endpoint, without a token."""
        scheme = "wss" if self._tls else "ws"
        return f"{scheme}://127.0.0.1:{self.port}/ws/energy"

    def admin(self, path: str) -> tuple[int, Any]:
        """Status and JSON of the admin port's answer."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.admin_port}{path}", timeout=5
            ) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.load(refusal)

    def ready(self) -> Self:
        """Wait until it serves what is in the topic."""
        self.wait_logged("admin listening")
        eventually(lambda: self.admin("/ready")[0] == 200, "the service is ready")
        return self

    def caught_up(self, records: Records, less: int = 0) -> None:
        """Wait until every worker has a frame for every record that was sent, but for `less`."""

        def complete() -> bool:
            workers = [c for c in self.admin("/workers")[1] if c["name"].startswith("worker-")]
            return all(child["board"]["frames"] >= records.sent - less for child in workers)

        eventually(complete, "every worker has every record")

    def children(self) -> dict[str, psutil.Process]:
        """The child processes by name: consumer, worker-0, …"""
        found = {}
        for child in psutil.Process(self.pid).children():
            try:
                arguments = child.cmdline()
            except psutil.Error:
                # It has just ended.
                continue
            for argument in arguments:
                if argument.startswith("--name="):
                    found[argument.removeprefix("--name=")] = child
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code."""
        code = self._process.wait(seconds)
        self._reader.join(seconds)
        return code

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Make sure that nothing of it is left."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(PATIENCE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
        self._reader.join(PATIENCE_SECONDS)
        assert self._process.stderr is not None
        self._process.stderr.close()


def config(brokers: str, topic: str, **sections: dict[str, Any]) -> dict[str, Any]:
    """A configuration for tests: loopback, free ports, two workers; sections are merged in."""
    base: dict[str, Any] = {
        "kafka": {
            "brokers": brokers,
            "topic": topic,
            "metadata_refresh_seconds": 0.5,
            "options": FAST_FETCH,
        },
        "server": {
            "host": "127.0.0.1",
            "port": 0,
            "workers": 2,
            "drain_seconds": 0.2,
            "close_timeout_seconds": 0.5,
        },
        "auth": {"jwt_secret": SECRET},
        "admin": {"port": 0},
    }
    for name, values in sections.items():
        base[name] = {**base.get(name, {}), **values}
    return base


def token(subject: str = "tester", seconds: float = 3600, **claims: Any) -> str:
    """A token that the service accepts."""
    return mint(SECRET, subject, int(seconds), time.time(), claims.get("streams"))
