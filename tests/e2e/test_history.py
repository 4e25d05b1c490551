"""Clients that resume from before the start of the ring get history from Kafka's log."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from energyws.testing import PARTITIONS, Broker, Records, Service, eventually, token
from tests.clients import open_peer

pytestmark = pytest.mark.e2e

Serve = Callable[..., Service]
# Rings that hold less than any of these tests writes.
SHALLOW = {"max_frames": 60, "warm": 4}


def start_of(service: Service) -> str:
    """The position of a client that has seen nothing yet."""
    with open_peer(service) as peer:
        position: str = peer.subscribe()["position"]
    return position


def caught_up(service: Service, records: Records) -> None:
    """Wait until the consumer has read everything; its workers may be a moment behind."""
    eventually(
        lambda: board(service, "consumer", "frames") >= records.sent, "everything has been read"
    )


def in_order(numbers: list[int]) -> bool:
    """Whether the records of each partition are in order."""
    return all(
        numbers_of == sorted(numbers_of)
        for partition in range(PARTITIONS)
        for numbers_of in [[n for n in numbers if n % PARTITIONS == partition]]
    )


def board(service: Service, child: str, field: str) -> int:
    """One figure of one process."""
    workers: list[dict[str, Any]] = service.admin("/workers")[1]
    value: int = next(each["board"][field] for each in workers if each["name"] == child)
    return value


def test_resume_from_before_memory_is_complete_and_in_order(serve: Serve, records: Records) -> None:
    service = serve(history=SHALLOW).ready()
    begin = start_of(service)
    sent = records.send(1500)
    caught_up(service, records)
    with open_peer(service) as peer:
        reply = peer.subscribe(resume={"energy": begin})
        assert (reply["position"], reply["recovered"]) == (begin, True)
        numbers = peer.numbers(1500)
        assert sorted(numbers) == sent
        assert in_order(numbers)
        live = records.send(3)
        assert sorted(peer.numbers(3)) == live


def test_replay_and_live_meet_exactly_under_traffic(serve: Serve, records: Records) -> None:
    service = serve(history=SHALLOW).ready()
    begin = start_of(service)
    records.send(600)
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.005):
            records.send(3)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        peers = []
        for _ in range(10):
            peers.append(open_peer(service))
            assert peers[-1].subscribe(resume={"energy": begin})["recovered"]
        first = [peer.numbers(900) for peer in peers]
    finally:
        stop.set()
        writer.join()
    for peer, numbers in zip(peers, first, strict=True):
        numbers += peer.numbers(records.sent - 900)
        assert sorted(numbers) == list(range(records.sent))
        assert in_order(numbers)
        peer.close()


def test_ids_within_a_replay_are_exact(serve: Serve, records: Records) -> None:
    service = serve(history=SHALLOW).ready()
    begin = start_of(service)
    records.send(300)
    caught_up(service, records)
    seen: list[int] = []
    while len(seen) < 300:
        with open_peer(service) as peer:
            assert peer.subscribe(resume={"energy": begin})["recovered"]
            for _ in range(min(37, 300 - len(seen))):
                message = peer.until("data")
                seen.append(message["data"]["n"])
                begin = message["id"]
    assert sorted(seen) == list(range(300))


def test_many_clients_at_the_same_position_cost_one_read(serve: Serve, records: Records) -> None:
    service = serve(history=SHALLOW, server={"workers": 1}).ready()
    begin = start_of(service)
    records.send(900)
    caught_up(service, records)

    def replay(_: int) -> list[int]:
        with open_peer(service) as peer:
            assert peer.subscribe(resume={"energy": begin})["recovered"]
            return peer.numbers(900)

    with ThreadPoolExecutor(8) as pool:
        for numbers in pool.map(replay, range(24)):
            assert sorted(numbers) == list(range(900))
    # The clients received 24 x 900 records.
    assert 900 <= board(service, "consumer", "read_back") < 3 * 900


def test_last_reaches_into_the_log(serve: Serve, records: Records) -> None:
    service = serve(history=SHALLOW).ready()
    for _ in range(100):
        # In different milliseconds, so that the order of the newest is known.
        records.send(1)
        written = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 <= written + 1:
            time.sleep(0.001)
    caught_up(service, records)
    with open_peer(service) as peer:
        reply = peer.subscribe(last=90)
        assert reply["recovered"]
        assert sorted(peer.numbers(90)) == list(range(10, 100))
    with open_peer(service) as peer:
        reply = peer.subscribe(last=200)
        assert (reply["recovered"], reply["reason"]) == (False, "HISTORY_EXCEEDED")
        assert sorted(peer.numbers(100)) == list(range(100))


def test_since_a_time(serve: Serve, records: Records) -> None:
    service = serve(history=SHALLOW).ready()
    records.send(90)
    caught_up(service, records)
    with open_peer(service) as watcher:
        watcher.subscribe(last=1)
        newest = watcher.until("data")["timestamp"]
    # Kafka stores times in milliseconds.
    eventually(lambda: datetime.now(UTC).isoformat() > newest, "the clock has moved on")
    moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    after = records.send(90)
    caught_up(service, records)
    with open_peer(service) as peer:
        reply = peer.subscribe(since=moment)
        assert reply["recovered"]
        assert sorted(peer.numbers(90)) == after
    with open_peer(service, query=f"?subscribe=energy&since={moment}") as peer:
        assert peer.receive()["positions"]["energy"]["recovered"]
        assert sorted(peer.numbers(90)) == after
    with open_peer(service) as peer:
        reply = peer.subscribe(since="2001-01-01T00:00:00Z")
        assert reply["recovered"]
        assert sorted(peer.numbers(180)) == list(range(180))
    with open_peer(service) as peer:
        reply = peer.subscribe(since="2999-01-01T00:00:00Z")
        assert (reply["recovered"], reply["replayed"]) == (True, 0)
        live = records.send(3)
        assert sorted(peer.numbers(3)) == live


def test_records_that_retention_removed_are_reported_exactly(
    serve: Serve, records: Records, broker: Broker, topic: str
) -> None:
    service = serve(history=SHALLOW).ready()
    begin = start_of(service)
    records.send(300)
    caught_up(service, records)
    for partition, low in enumerate((50, 0, 70)):
        if low:
            broker.trim(topic, partition, low)

    def incomplete() -> dict[str, Any] | None:
        with open_peer(service) as peer:
            answer = peer.subscribe(resume={"energy": begin})
            return None if answer["recovered"] else answer

    answer = eventually(incomplete, "the broker has removed the records")
    epoch = begin.partition("-")[0]
    assert answer["reason"] == "RETENTION"
    assert answer["missing"] == [50, 0, 70]
    assert answer["earliest"] == answer["position"] == f"{epoch}-50.0.70"
    with open_peer(service) as peer:
        peer.subscribe(resume={"energy": begin})
        gone = {p + 3 * k for p, low in ((0, 50), (2, 70)) for k in range(low)}
        assert sorted(peer.numbers(180)) == sorted(set(range(300)) - gone)


def test_a_recreated_topic_is_replayed_whole_to_a_client_of_the_old_one(
    serve: Serve, records: Records, broker: Broker, topic: str
) -> None:
    service = serve(history=SHALLOW).ready()
    records.send(30)
    caught_up(service, records)
    old = start_of(service)
    broker.delete_topic(topic)
    broker.create_topic(topic)
    again = Records(broker.bootstrap, topic)
    again.send(240)
    epoch = old.partition("-")[0]
    eventually(lambda: not start_of(service).startswith(epoch), "the new topic is seen")
    with open_peer(service) as peer:
        reply = peer.subscribe(resume={"energy": old})
        assert (reply["recovered"], reply["reason"]) == (False, "EPOCH_CHANGED")
        assert reply["missing"] is None
        assert sorted(peer.numbers(240)) == list(range(240))


def test_history_is_limited_in_messages(serve: Serve, records: Records) -> None:
    service = serve(history={**SHALLOW, "max_messages": 90}).ready()
    begin = start_of(service)
    records.send(300)
    caught_up(service, records)
    with open_peer(service) as peer:
        reply = peer.subscribe(resume={"energy": begin})
        assert (reply["recovered"], reply["reason"]) == (False, "HISTORY_EXCEEDED")
        assert reply["missing"] == [70, 70, 70]
        assert sorted(peer.numbers(90)) == list(range(210, 300))


def test_history_is_limited_in_age(serve: Serve, records: Records) -> None:
    service = serve(history={**SHALLOW, "max_record_age_seconds": 0.5}).ready()
    begin = start_of(service)
    records.send(90)
    caught_up(service, records)

    def refused() -> Any:
        with open_peer(service) as peer:
            reply = peer.subscribe(resume={"energy": begin})
            return reply.get("reason") == "HISTORY_EXCEEDED" and reply

    assert eventually(refused, "the records have become too old")["missing"]


def test_restart_of_everything_without_warming_loses_nothing(
    serve: Serve, records: Records
) -> None:
    service = serve(history={**SHALLOW, "warm": 0}).ready()
    begin = start_of(service)
    records.send(30)
    assert service.stop() == 0
    records.send(300)
    again = serve(history={**SHALLOW, "warm": 0}).ready()
    with open_peer(again) as peer:
        assert peer.subscribe(resume={"energy": begin})["recovered"]
        assert sorted(peer.numbers(330)) == list(range(330))


def test_consumer_that_returns_late_loses_nothing_for_live_clients(
    serve: Serve, records: Records
) -> None:
    service = serve(history={**SHALLOW, "warm": 0}).ready()
    with open_peer(service) as live, open_peer(service) as latest:
        live.subscribe()
        latest.subscribe(on_lag="latest")
        records.send(9)
        numbers = live.numbers(9)
        consumer = service.children()["consumer"]
        consumer.send_signal(signal.SIGSTOP)
        # More than any ring holds, written while no process reads.
        records.send(600)
        consumer.kill()
        numbers += live.numbers(600)
        records.send(3)
        numbers += live.numbers(3)
        assert sorted(numbers) == list(range(612))
        assert in_order(numbers)
        assert sorted(latest.numbers(612)) == list(range(612))


def test_a_replay_continues_after_the_death_of_the_consumer(serve: Serve, records: Records) -> None:
    service = serve(history={**SHALLOW, "bytes_per_second": 65_536}).ready()
    begin = start_of(service)
    # At that rate the replay takes some seconds.
    records.send(1500, padding="x" * 200)
    caught_up(service, records)
    with open_peer(service) as peer:
        assert peer.subscribe(resume={"energy": begin})["recovered"]
        numbers = peer.numbers(100)
        service.children()["consumer"].kill()
        numbers += peer.numbers(1400)
        assert sorted(numbers) == list(range(1500))
        assert in_order(numbers)


def test_retention_during_a_replay_is_reported_in_its_place(
    serve: Serve, records: Records, broker: Broker, topic: str
) -> None:
    service = serve(history={**SHALLOW, "bytes_per_second": 65_536}, server={"workers": 1}).ready()
    begin = start_of(service)
    records.send(6000, padding="x" * 200)
    caught_up(service, records)
    with open_peer(service) as peer:
        assert peer.subscribe(resume={"energy": begin})["recovered"]
        peer.numbers(30)
        for partition in range(PARTITIONS):
            broker.trim(topic, partition, 1900)
        seen, missed = 30, 0
        while seen + missed < 6000:
            message = peer.receive()
            if message["type"] == "lagged":
                assert message["reason"] == "RETENTION"
                missed += message["missed"]
            else:
                seen += 1
        assert missed > 0
        assert seen + missed == 6000


def test_history_requests_need_access_to_the_stream(serve: Serve, records: Records) -> None:
    service = serve(history=SHALLOW).ready()
    begin = start_of(service)
    records.send(90)
    caught_up(service, records)
    headers = {"Authorization": f"Bearer {token(streams=['gas'])}"}
    with open_peer(service, additional_headers=headers) as peer:
        for field in (
            {"resume": {"energy": begin}},
            {"last": 90},
            {"since": "2001-01-01T00:00:00Z"},
        ):
            answer = peer.ask({"type": "subscribe", "streams": ["energy"], **field})
            assert answer["code"] == "FORBIDDEN_STREAM"


def test_unsubscribing_ends_a_replay(serve: Serve, records: Records) -> None:
    service = serve(history={**SHALLOW, "bytes_per_second": 65_536}).ready()
    begin = start_of(service)
    records.send(3000, padding="x" * 200)
    caught_up(service, records)
    with open_peer(service) as peer:
        peer.subscribe(resume={"energy": begin})
        peer.numbers(10)
        peer.send({"type": "unsubscribe", "streams": ["energy"]})
        peer.until("unsubscribed")
        assert peer.ask({"type": "ping"})["type"] == "pong"
