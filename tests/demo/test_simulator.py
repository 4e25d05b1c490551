"""The simulator as a process, writing to an embedded broker."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE
from typing import Any

import orjson
import pytest

from energyws.demo.meter import POISON
from energyws.demo.simulator import main
from energyws.stream.record import BadRecord, decode
from energyws.testing.embedded_broker import EmbeddedBroker
from tests.testing.processes import wait_until_ended
from tests.testing.readers import DEADLINE, Readers

# Starts a simulator, prints its process id, and waits to be killed.
PARENT = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "energyws.demo.simulator", *sys.argv[1:]])
print(child.pid, flush=True)
signal.pause()
"""


@contextmanager
def simulator(
    bootstrap: str, *arguments: str, stderr: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "energyws.demo.simulator", "--brokers", bootstrap]
    command += ["--topic", "energy", "--interval", "0.05", *arguments]
    with subprocess.Popen(command, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()


def is_reading(value: bytes | None) -> bool:
    try:
        decode(value, max_bytes=65536)
    except BadRecord:
        return False
    return True


def test_every_meter_writes_to_every_partition(embedded: EmbeddedBroker, readers: Readers) -> None:
    with simulator(embedded.bootstrap, "--meters", "2"):
        records = readers.read(embedded.bootstrap, "energy", 3, 30)
    seen = Counter[tuple[str, int | None]]()
    for record in records:
        assert record.key() is None
        value: dict[str, Any] = orjson.loads(record.value() or b"")
        seen[value["saveeyeDeviceSerialNumber"], record.partition()] += 1
    assert len(seen) == 6
    assert max(seen.values()) - min(seen.values()) <= 3


def test_same_seed_gives_the_same_meters(embedded: EmbeddedBroker, readers: Readers) -> None:
    serials = []
    for topic in ("energy", "again"):
        if topic != "energy":
            embedded.create_topic(topic, 1)
        partitions = 3 if topic == "energy" else 1
        with simulator(embedded.bootstrap, "--meters", "3", "--seed", "7", "--topic", topic):
            records = readers.read(embedded.bootstrap, topic, partitions, 9)
        serials.append(
            {orjson.loads(record.value() or b"")["saveeyeDeviceSerialNumber"] for record in records}
        )
    assert len(serials[0]) == 3
    assert serials[0] == serials[1]


def test_poison_follows_readings_at_the_given_rate(
    embedded: EmbeddedBroker, readers: Readers
) -> None:
    with simulator(embedded.bootstrap, "--poison", "1"):
        records = readers.read(embedded.bootstrap, "energy", 3, 40)
    values = [record.value() for record in records]
    bad = [value for value in values if not is_reading(value)]
    assert abs(len(bad) - len(values) / 2) <= 3
    assert set(bad) <= set(POISON)


def test_simulator_waits_for_its_topic_and_does_not_create_it(readers: Readers) -> None:
    with EmbeddedBroker() as broker, simulator(broker.bootstrap, stderr=PIPE) as process:
        assert process.stderr is not None
        assert b"topic not available" in process.stderr.readline()
        broker.create_topic("energy", 1)
        assert len(readers.read(broker.bootstrap, "energy", 1, 3)) == 3


def test_simulator_waits_for_its_broker(embedded: EmbeddedBroker, readers: Readers) -> None:
    embedded.set_down(True)
    with simulator(embedded.bootstrap, stderr=PIPE) as process:
        assert process.stderr is not None
        assert b"Kafka not reachable" in process.stderr.readline()
        embedded.set_down(False)
        assert len(readers.read(embedded.bootstrap, "energy", 3, 3)) == 3


def test_simulator_continues_after_an_outage(embedded: EmbeddedBroker, readers: Readers) -> None:
    with simulator(embedded.bootstrap, "--meters", "1"):
        before = len(readers.read(embedded.bootstrap, "energy", 3, 3))
        embedded.set_down(True)
        embedded.set_down(False)
        assert len(readers.read(embedded.bootstrap, "energy", 3, before + 20)) == before + 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_simulator_exits_with_status_0_on_a_signal(
    embedded: EmbeddedBroker, readers: Readers, number: signal.Signals
) -> None:
    with simulator(embedded.bootstrap) as process:
        readers.read(embedded.bootstrap, "energy", 3, 1)
        process.send_signal(number)
        assert process.wait(DEADLINE) == 0


def test_simulator_ends_with_its_parent(embedded: EmbeddedBroker, readers: Readers) -> None:
    arguments = ["--brokers", embedded.bootstrap, "--topic", "energy"]
    command = [sys.executable, "-c", PARENT, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            readers.read(embedded.bootstrap, "energy", 3, 1)
        finally:
            parent.kill()
    wait_until_ended(child)


# Arguments, and the error message for them.
REFUSED = [
    (["--meters", "0"], "--meters: 0 is out of range: expected 1 or more"),
    (["--meters", "x"], "--meters: invalid number value: 'x'"),
    (["--interval", "0"], "--interval: 0 is out of range"),
    (["--poison", "1.5"], "--poison: 1.5 is out of range: expected from 0 to 1"),
    (["--poison", "nan"], "--poison: nan is out of range"),
]


@pytest.mark.parametrize(("arguments", "error"), REFUSED)
def test_bad_argument_is_refused_with_the_reason(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--brokers", "127.0.0.1:1", "--topic", "energy", *arguments])
    assert raised.value.code == 2
    assert error in capsys.readouterr().err
