"""Two services on one topic, behind a balancer: one dies, its clients resume at the other."""

from __future__ import annotations

import itertools
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from energyws.testing import (
    PARTITIONS,
    PATIENCE_SECONDS,
    Broker,
    Records,
    Service,
    Traffic,
    config,
    eventually,
)
from tests.clients import open_peer
from tests.watchers import Watchers
from tests.web.agent import program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CLIENTS = 12


class Replica:
    """A service on a port of its own, which can be killed and started again."""

    def __init__(self, directory: Path, broker: Broker, topic: str) -> None:
        self.port = free_port()
        self._starts = itertools.count()
        self._directory = directory
        # Small rings: a change of replicas must not depend on them.
        self._config = config(
            broker.bootstrap,
            topic,
            server={"port": self.port},
            history={"max_frames": 60, "warm": 5},
        )
        self.start()

    def start(self) -> None:
        self.service = Service(self._directory / f"start-{next(self._starts)}", self._config)
        self.service.ready()

    def die(self) -> None:
        """Kill every process of the service with SIGKILL."""
        processes = [psutil.Process(self.service.pid), *self.service.children().values()]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes[1:], PATIENCE_SECONDS)
        self.service.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def haproxy(directory: Path, ports: list[int]) -> Iterator[int]:
    """HAProxy in front of these ports; the port on which it listens."""
    executable = program("haproxy")
    port = free_port()
    servers = "\n".join(
        f"  server replica-{number} 127.0.0.1:{each} check inter 100 fall 1 rise 1 "
        "on-marked-down shutdown-sessions"
        for number, each in enumerate(ports)
    )
    path = directory / "haproxy.cfg"
    path.write_text(
        "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1h\n"
        f"  retries 3\n  option redispatch\nlisten energyws\n  bind 127.0.0.1:{port}\n"
        f"  balance roundrobin\n{servers}\n"
    )
    process = subprocess.Popen(
        [executable, "-db", "-f", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        eventually(lambda: answers(port), "HAProxy listens")
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def in_order(numbers: list[int]) -> bool:
    """Whether the records of each partition are in order."""
    parts = ([n for n in numbers if n % PARTITIONS == p] for p in range(PARTITIONS))
    return all(part == sorted(part) for part in parts)


@pytest.fixture
def replicas(broker: Broker, topic: str, tmp_path: Path) -> Iterator[list[Replica]]:
    running: list[Replica] = []
    try:
        running.extend(Replica(tmp_path / name, broker, topic) for name in ("one", "two"))
        yield running
    finally:
        for replica in running:
            replica.service.kill()
            print("\n".join(replica.service.lines))


def test_clients_resume_at_the_other_replica_without_loss_or_repetition(
    replicas: list[Replica], records: Records, tmp_path: Path
) -> None:
    with (
        haproxy(tmp_path, [replica.port for replica in replicas]) as port,
        Watchers(f"ws://127.0.0.1:{port}/ws/energy", CLIENTS) as watchers,
    ):
        with Traffic(records) as traffic:
            for replica in (*replicas, *replicas):
                traffic.more(100)
                replica.die()
                traffic.more(100)
                replica.start()
        watchers.have(list(range(records.sent)), seconds=60)
    # Every client was on a replica that died, at least once in the four times.
    assert all(client.connects > 1 for client in watchers.clients)


def test_replay_begun_at_one_replica_is_finished_at_the_other(
    replicas: list[Replica], records: Records
) -> None:
    with open_peer(replicas[0].service) as peer:
        position = peer.subscribe()["position"]
    records.send(900)
    seen: list[int] = []
    merged = position
    for replica in itertools.cycle(replicas):
        service = replica.service
        eventually(
            lambda service=service: str(service.admin("/workers")[1]).count("'ready'") == 3,
            "the replica is ready",
        )
        with open_peer(service) as peer:
            assert peer.subscribe(resume={"energy": merged})["recovered"]
            for _ in range(min(97, 900 - len(seen))):
                message = peer.until("data")
                seen.append(message["data"]["n"])
                merged = merge(merged, message["id"])
        if len(seen) == 900:
            break
    assert sorted(seen) == list(range(900))
    assert in_order(seen)


def merge(one: str, two: str) -> str:
    """The larger offset of every partition, as energyws.client merges positions."""
    epoch, _, ours = one.partition("-")
    theirs = two.partition("-")[2]
    pairs = zip(ours.split("."), theirs.split("."), strict=True)
    return f"{epoch}-" + ".".join(str(max(int(a), int(b))) for a, b in pairs)
