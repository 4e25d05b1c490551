"""A real Apache Kafka for tests: one KRaft node, from Maven Central's jars, without Docker.

    python -m energyws.testing.kafka_broker -- COMMAND ...

runs COMMAND with REDPANDA_BROKERS and, for READER, REDPANDA_SASL_BROKERS set; without a COMMAND it
prints its addresses and runs until Ctrl-C.

Needs a JDK 17 and Maven (Debian: openjdk-17-jre-headless, maven). The jars are kept in
$KAFKA_JARS_CACHE, or else ~/.cache/energyws-kafka. The data go with the broker.
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
from types import FrameType, TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

VERSION: Final = "4.3.1"
_LOG4J_VERSION: Final = "2.24.3"

# On the SASL listener READER may do what ACLs allow; on the plain one every client may do all.
READER: Final = "reader"
READER_PASSWORD: Final = "reader-password"

_START_TIMEOUT: Final = 60.0
_STOP_TIMEOUT: Final = 20.0
_LOG_TAIL: Final = 3000

# The second dependency is a logging backend: without one Kafka fails in silence.
_POM: Final = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>energyws</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{_LOG4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""

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

# The kernel kills the broker with whoever started it, even with kill -9.
_WITH_PARENT: Final = (
    "import ctypes, os, signal, sys;"
    "ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0);"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class KafkaBrokerError(Exception):
    """The broker cannot be fetched, formatted or started; the message says what to do."""


class KafkaBroker:
    """A running broker with an empty log, on a port of 127.0.0.1 that stays the same.

    Start it from a thread that outlives it: on Linux it dies with the thread that started it.
    joins: the controller and the id of a cluster that it is to be a second broker of.
    """

    def __init__(self, joins: tuple[str, str] | None = None) -> None:
        self._joins = joins
        self._java = _tool("java", "openjdk-17-jre-headless")
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
        """Start it, again with the same port and data, and wait until it answers."""
        if self._process is not None:
            raise KafkaBrokerError("the broker is running already")
        command = [*self._command("-Xmx512M"), "kafka.Kafka", str(self._properties)]
        if sys.platform == "linux":
            command = [sys.executable, "-c", _WITH_PARENT, *command]
        with self._log.open("ab") as log:
            # In a session of its own: Ctrl-C at a terminal is not for the broker.
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
        """End it and remove its data; again is fine."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def data(self) -> Path:
        """Where its logs lie: a directory TOPIC-PARTITION for each partition."""
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
        # Compiling less well starts a fifth sooner and takes 50 MB less: right for short runs.
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
        return self._log.read_text(errors="replace")[-_LOG_TAIL:]


def fetch_jars() -> Path:
    """The directory of Kafka's jars, fetched with Maven when it is not there yet."""
    cache = os.environ.get("KAFKA_JARS_CACHE")
    if not cache:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache = str(Path(home) / "energyws-kafka")
    jars = Path(cache) / VERSION
    if jars.is_dir():
        return jars
    maven = _tool("mvn", "maven")
    jars.parent.mkdir(parents=True, exist_ok=True)
    # Fetched beside its place and renamed: never half a set, also with two at the same time.
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix=f"{VERSION}-") as directory:
        pom, fetched = Path(directory) / "pom.xml", Path(directory) / "jars"
        pom.write_text(_POM)
        command = [
            maven,
            "--batch-mode",
            "--quiet",
            f"--file={pom}",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={fetched}",
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            output = (result.stdout + result.stderr)[-_LOG_TAIL:]
            raise KafkaBrokerError(f"Maven could not fetch Kafka {VERSION}:\n{output}")
        try:
            fetched.rename(jars)
        except OSError:
            if not jars.is_dir():
                raise
    return jars


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise KafkaBrokerError(
            f"a real Kafka needs the command {name!r}: install it (Debian: {package}), "
            "or run the tests with the embedded broker"
        )
    return found


def _free_ports() -> tuple[int, int, int]:
    # All are held at the same time, so they differ.
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
    """Run a command beside a broker and return its status; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python energyws/testing/kafka_broker.py",
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
