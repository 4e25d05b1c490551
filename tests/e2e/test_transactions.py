"""An open transaction delays its own partition only (needs a real Kafka)."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer

from energyws.testing import Broker, ExternalBroker, Records, Service, config, eventually
from tests.clients import open_peer
from tests.conftest import new_topic

pytestmark = pytest.mark.e2e
Serve = Callable[..., Service]


class Transaction:
    """A transaction that has written `n=100` and `n=101` into partition 0, and is still open."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._producer = Producer(
            {"bootstrap.servers": broker.bootstrap, "transactional.id": f"writer-of-{topic}"}
        )
        self._producer.init_transactions(30)
        self._producer.begin_transaction()
        for number in (100, 101):
            self._producer.produce(topic, orjson.dumps({"n": number}), partition=0)
        self._producer.flush(30)
        self.open = True

    def commit(self) -> None:
        """Commit it, so that its records are delivered."""
        self._producer.commit_transaction(30)
        self.open = False

    def abort(self) -> None:
        """Abort it, so that its records are never delivered."""
        self._producer.abort_transaction(30)
        self.open = False


@pytest.fixture
def transaction(broker: Broker, topic: str, records: Records) -> Iterator[Transaction]:
    if not isinstance(broker, ExternalBroker):
        pytest.skip("the embedded broker hands out the records of open transactions")
    records.send(3)
    running = Transaction(broker, topic)
    yield running
    if running.open:
        running.abort()


def test_service_starts_during_a_transaction_and_its_records_come_when_it_commits(
    serve: Serve, records: Records, transaction: Transaction
) -> None:
    service = serve(server={"workers": 1}).ready()
    with open_peer(service) as peer:
        position = peer.subscribe()["position"]
        # n=3 comes after the open transaction, n=4 and n=5 are in the other partitions.
        records.send(3)
        assert sorted(peer.numbers(2)) == [4, 5]
        transaction.commit()
        assert peer.numbers(3) == [100, 101, 3]
        records.send(3)
        assert sorted(peer.numbers(3)) == [6, 7, 8]
    with open_peer(service) as peer:
        reply = peer.subscribe(resume={"energy": position})
        assert (reply["recovered"], reply["replayed"]) == (True, 8)
        numbers = peer.numbers(8)
        assert sorted(numbers) == [3, 4, 5, 6, 7, 8, 100, 101]
        assert [number for number in numbers if number in {100, 101, 3, 6}] == [100, 101, 3, 6]


def test_consumer_that_dies_during_a_transaction_delays_no_other_record(
    serve: Serve, records: Records, transaction: Transaction
) -> None:
    service = serve(server={"workers": 1}).ready()
    with open_peer(service) as peer:
        peer.subscribe()
        # Lines come a little later, and those of a process that is killed meanwhile never.
        service.wait_logged("consumer ready")
        service.children()["consumer"].kill()
        service.wait_logged("child ended", "child=consumer")
        eventually(lambda: len(service.logged("consumer ready")) == 2, "the new consumer is ready")
        records.send(3)
        assert sorted(peer.numbers(2)) == [4, 5]
        transaction.abort()
        # The aborted records never come.
        assert peer.numbers(1) == [3]
        records.send(3)
        assert sorted(peer.numbers(3)) == [6, 7, 8]
    assert service.admin("/ready")[0] == 200


def test_all_processes_are_replaced_during_a_transaction(
    serve: Serve, records: Records, transaction: Transaction
) -> None:
    service = serve(server={"workers": 1}).ready()
    service.signal(signal.SIGUSR2)
    for name in ("consumer", "worker-0"):
        service.wait_logged("child replaced", f"child={name}")
    assert service.logged("child not replaced") == []
    with open_peer(service) as peer:
        peer.subscribe()
        transaction.commit()
        assert peer.numbers(2) == [100, 101]


def test_a_transaction_in_one_topic_does_not_affect_another_stream(
    broker: Broker, topic: str, transaction: Transaction, tmp_path: Path
) -> None:
    other = new_topic(broker)
    settings = config(broker.bootstrap, topic, server={"workers": 1})
    del settings["kafka"]["topic"]
    settings["streams"] = {"energy": {"topic": other}, "held": {"topic": topic}}
    with Service(tmp_path, settings) as service:
        service.ready()
        with open_peer(service) as peer:
            peer.send({"type": "subscribe", "streams": ["energy", "held"]})
            peer.until("subscribed")
            numbers = Records(broker.bootstrap, other).send(3)
            assert sorted(peer.numbers(3)) == numbers
            transaction.commit()
            assert peer.numbers(2) == [100, 101]


def test_a_replay_from_the_log_ends_where_the_transaction_begins(
    serve: Serve, records: Records, transaction: Transaction
) -> None:
    # Nothing is in memory at start: everything comes from the log.
    service = serve(server={"workers": 1}, history={"warm": 0}).ready()
    with open_peer(service) as peer:
        reply = peer.subscribe(last=100)
        assert reply["replayed"] == 3
        assert sorted(peer.numbers(3)) == [0, 1, 2]
        transaction.commit()
        assert peer.numbers(2) == [100, 101]
