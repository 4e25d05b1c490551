"""A real Apache Kafka for tests: one KRaft node, from Maven Central's jars, without Docker.

    python -m energyws.testing.kafka_broker -- COMMAND ...

runs COMMAND with REDPANDA_BROKERS and, for READER, REDPANDA_SASL_BROKERS set. Without a COMMAND it
prints these addresses and runs until Ctrl-C.

It needs a JDK 17 and Maven (Debian: openjdk-17-jre-headless, maven). Its data are removed with it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from energyws.testing.kafka_jars import LOG_TAIL, KafkaBrokerError, fetch_jars, tool

# On the SASL listener, READER may do what ACLs allow; on the plain one, every client may do all.
READER: Final = "reader"
READER_PASSWORD: Final = "reader-password"

_START_TIMEOUT: Final = 60.0
_STOP_TIMEOUT: Final = 20.0

# The first node, and one that joins it.
_FIRST: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl_port},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl_port},\
CONTROLLER://{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
listener.name.sasl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{reader}="{password}";
"""
_SECOND: Final = """\
process.roles=broker
node.id=2
controller.quorum.bootstrap.servers={controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
"""
# Topics are the tests' to create. Retention and compaction work within a second, and a killed
# broker's registration lapses in one (by default a restart after a crash waits for 9).
_PROPERTIES: Final = """\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.initial.task.delay.ms=500
log.retention.check.interval.ms=500
log.segment.delete.delay.ms=1000
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=4194304
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
"""

# The kernel kills the broker together with its parent, even when that dies of SIGKILL.
_WITH_PARENT: Final = (
    "import ctypes, os, signal, sys;"
    "ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0);"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class KafkaBroker:
    """A running broker with an empty log, on a port of 127.0.0.1 that stays the same.

    Start it from a thread that outlives it: on Linux it dies with the thread that started it.
    joins: controller and id of the cluster that it joins as a second broker.
    """

    def __init__(self, joins: tuple[str, str] | None = None) -> None:
        self._joins = joins
        self._java = tool("java", "openjdk-17-jre-headless")
        self._jars = fetch_jars()
        self._directory = Path(tempfile.mkdtemp(prefix="energyws-kafka-"))
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._format()
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self._port}"

    @property
    def sasl_bootstrap(self) -> str:
        """`127.0.0.1:PORT` for READER (SASL_PLAINTEXT, PLAIN), who may do what ACLs allow."""
        return f"127.0.0.1:{self._sasl_port}"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it, after a stop with the same port and data, and wait until it answers."""
        if self._process is not None:
            raise KafkaBrokerError("the broker is running already")
        command = [*self._command("-Xmx512M"), "kafka.Kafka", str(self._properties)]
        if sys.platform == "linux":
            command = [sys.executable, "-c", _WITH_PARENT, *command]
        with self._log.open("ab") as log:
            # In a session of its own: a Ctrl-C at the terminal is not for the broker.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Shut it down in order (SIGTERM); data stay for the next start."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it as a crash would (SIGKILL); data stay for the next start."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """End it and remove its data; a second call does nothing."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def data(self) -> Path:
        """The directory of its logs: TOPIC-PARTITION for each partition."""
        return self._directory / "data"

    @property
    def _properties(self) -> Path:
        return self._directory / "server.properties"

    @property
    def _log(self) -> Path:
        return self._directory / "broker.log"

    def _format(self) -> None:
        self._port, self._sasl_port, controller_port = _free_ports()
        if self._joins is None:
            self.controller = f"127.0.0.1:{controller_port}"
            cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        else:
            self.controller, cluster_id = self._joins
        template = (_FIRST if self._joins is None else _SECOND) + _PROPERTIES
        self._properties.write_text(
            template.format(
                port=self._port,
                sasl_port=self._sasl_port,
                controller=self.controller,
                reader=READER,
                password=READER_PASSWORD,
                data=self.data,
            )
        )
        command = [
            *self._command("-Xmx128M"),
            "kafka.tools.StorageTool",
            "format",
            "--standalone" if self._joins is None else "--no-initial-controllers",
            f"--cluster-id={cluster_id}",
            f"--config={self._properties}",
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise KafkaBrokerError(f"kafka.tools.StorageTool: {result.stdout}{result.stderr}")

    def _command(self, heap: str) -> list[str]:
        # With the quick compiler only, it starts a fifth sooner and takes 50 MB less.
        return [
            self._java,
            heap,
            "-XX:TieredStopAtLevel=1",
            f"-Djava.io.tmpdir={self._directory}",
            "-cp",
            f"{self._jars}/*",
        ]

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT
        client = AdminClient(
            {
                "bootstrap.servers": self.bootstrap,
                "reconnect.backoff.max.ms": 100,
                "log_level": 0,
            }
        )
        while time.monotonic() < deadline:
            with contextlib.suppress(KafkaException):
                # A broker that has not registered yet answers without any broker to go to.
                if client.list_topics(timeout=0.5).brokers:
                    return
            status = self._process.poll()
            if status is not None:
                self._process = None
                raise KafkaBrokerError(f"Kafka ended with status {status}:\n{self._tail()}")
        self.kill()
        raise KafkaBrokerError(f"Kafka did not answer in {_START_TIMEOUT:g} s:\n{self._tail()}")

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-LOG_TAIL:]


def _free_ports() -> tuple[int, int, int]:
    # All are open at the same time, so they differ.
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
        socket.create_server(("127.0.0.1", 0)) as three,
    ):
        return one.getsockname()[1], two.getsockname()[1], three.getsockname()[1]


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command while a broker runs; its status."""
    parser = argparse.ArgumentParser(
        prog="python -m energyws.testing.kafka_broker",
        description="A real Kafka for as long as COMMAND runs.",
    )
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="put -- before it")
    command = parser.parse_args(arguments).command
    try:
        with _ended_by_signals(), KafkaBroker() as broker:
            if not command:
                print(broker.bootstrap, broker.sasl_bootstrap, flush=True)
                signal.pause()
            environment = {
                **os.environ,
                "REDPANDA_BROKERS": broker.bootstrap,
                "REDPANDA_SASL_BROKERS": broker.sasl_bootstrap,
            }
            return subprocess.run(command, env=environment, check=False).returncode
    except KafkaBrokerError as error:
        sys.stderr.write(f"kafka_broker: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
