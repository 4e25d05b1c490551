"""The embedded broker as a process: readiness, commands, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from energyws.testing.broker_process import BrokerProcess
from energyws.testing.embedded_broker import BrokerError
from tests.testing.processes import wait_until_ended
from tests.testing.readers import DEADLINE

# Starts a broker, prints its process id, and waits to be killed.
PARENT = """
import signal
from energyws.testing.broker_process import BrokerProcess
with BrokerProcess({"energy": 1}) as broker:
    print(broker.pid, flush=True)
    signal.pause()
"""


@pytest.fixture
def process() -> Iterator[BrokerProcess]:
    with BrokerProcess({"energy": 3, "other": 1}) as process:
        yield process


def topics(bootstrap: str) -> dict[str, int]:
    client = AdminClient(
        {"bootstrap.servers": bootstrap, "allow.auto.create.topics": False, "log_level": 0}
    )
    found = client.list_topics(timeout=DEADLINE).topics
    return {name: len(topic.partitions) for name, topic in found.items()}


def test_messages_go_where_they_should(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as log, BrokerProcess(stderr=log.fileno()) as process:
        assert process.running
        assert os.readlink(f"/proc/{process.pid}/fd/2") == log.name
        process.kill()
        assert not process.running


def test_ready_broker_has_its_topics(process: BrokerProcess) -> None:
    assert topics(process.bootstrap) == {"energy": 3, "other": 1}


def test_commands_are_executed_and_refusals_raised(process: BrokerProcess) -> None:
    process.call("create_topic", name="late", partitions=2)
    assert topics(process.bootstrap)["late"] == 2
    with pytest.raises(BrokerError, match="TOPIC_ALREADY_EXISTS"):
        process.call("create_topic", name="late", partitions=2)
    process.call("delete_topic", name="late")
    assert "late" not in topics(process.bootstrap)


def test_broker_ends_when_its_input_ends(process: BrokerProcess) -> None:
    child = psutil.Process(process.pid)
    process.close()
    assert not child.is_running()
    with pytest.raises(BrokerError, match="closed"):
        process.call("set_rtt", ms=0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_broker_exits_with_status_0_on_a_signal(
    process: BrokerProcess, number: signal.Signals
) -> None:
    child = psutil.Process(process.pid)
    child.send_signal(number)
    # BrokerProcess reaps its child, so the error has the status.
    with pytest.raises(BrokerError, match="ended with status 0"):
        while True:
            process.call("set_rtt", ms=0)


def test_call_after_a_kill_is_an_error(process: BrokerProcess) -> None:
    psutil.Process(process.pid).kill()
    with pytest.raises(BrokerError, match=f"ended with status -{int(signal.SIGKILL)}"):
        while True:
            process.call("set_rtt", ms=0)


def test_failed_start_is_an_error_and_leaves_no_process(
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = psutil.Process().children()
    with pytest.raises(BrokerError, match="ended with status 1"):
        BrokerProcess({"not a name": 1})
    assert "a name has 1 to 249" in capfd.readouterr().err
    assert psutil.Process().children() == before


def test_broker_ends_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
        finally:
            parent.kill()
    wait_until_ended(child)
