"""Processes that die, clients that misbehave, brokers that come late: no silent loss."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import orjson
import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition
from websockets.exceptions import InvalidHandshake, InvalidStatus

from energyws.control.policy.readiness import NO_ROOM
from energyws.testing import (
    PARTITIONS,
    SECRET,
    Broker,
    ExternalBroker,
    Records,
    Service,
    Traffic,
    config,
    eventually,
    token,
)
from energyws.testing.issuer import Issuer
from energyws.testing.proxy import TcpProxy
from tests.clients import (
    PATIENCE_SECONDS,
    Peer,
    bare_socket,
    close_code,
    first_frame,
    masked,
    open_peer,
    response_head,
    upgrade_request,
)
from tests.watchers import Watchers

pytestmark = pytest.mark.e2e

Serve = Callable[..., Service]


def test_two_workers_share_the_port_and_both_serve(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 2}).ready()
    peers: list[Peer] = []

    def both_have_clients() -> bool:
        # The worker that is ready first gets all connections until the other one is steered to.
        peers.extend(open_peer(service) for _ in range(10))
        _, workers = service.admin("/workers")
        counts = [child["board"]["connections"] for child in _children(workers, "worker-")]
        return bool(sum(counts) == len(peers) and min(counts) > 0)

    eventually(both_have_clients, "both workers have clients")
    for peer in peers:
        peer.subscribe()
    numbers = records.send(3)
    assert all(sorted(peer.numbers(3)) == numbers for peer in peers)
    for peer in peers:
        peer.close()


def _children(answer: Any, prefix: str) -> list[dict[str, Any]]:
    return [child for child in answer if child["name"].startswith(prefix)]


def test_worker_killed_under_traffic_loses_and_repeats_nothing(
    serve: Serve, records: Records
) -> None:
    service = serve(server={"workers": 2}).ready()
    with Watchers(service.url, 20) as watchers:
        with Traffic(records) as traffic:
            traffic.more(20)
            for name in ("worker-0", "worker-1", "worker-0"):
                eventually(lambda: len(service.children()) == 3, "every child runs")
                service.children()[name].kill()
                traffic.more(60)
                service.ready()
        watchers.have(list(range(records.sent)))
        assert any(client.connects > 1 for client in watchers.clients)


def test_consumer_killed_under_traffic_loses_and_repeats_nothing(
    serve: Serve, records: Records
) -> None:
    service = serve(server={"workers": 2}).ready()
    with Watchers(service.url, 6) as watchers:
        with Traffic(records) as traffic:
            for _ in range(2):
                traffic.more(40)
                service.children()["consumer"].kill()
                traffic.more(40)
                eventually(lambda: "consumer" in service.children(), "a new consumer")
                service.ready()
        watchers.have(list(range(records.sent)))
        # No client was disconnected.
        assert [client.connects for client in watchers.clients] == [1] * 6


def test_supervisor_killed_leaves_no_process(serve: Serve) -> None:
    service = serve(server={"workers": 2}).ready()
    children = list(service.children().values())
    assert len(children) == 3
    os.kill(service.pid, signal.SIGKILL)
    service.wait()

    def gone(child: psutil.Process) -> bool:
        # The process that inherits the children may be slow to reap them.
        return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE

    eventually(lambda: all(gone(child) for child in children), "every child has ended", 5)


def test_sigterm_closes_clients_and_ends_with_status_zero(serve: Serve, records: Records) -> None:
    service = serve().ready()
    with open_peer(service) as peer:
        peer.subscribe()
        children = list(service.children().values())
        service.signal(signal.SIGTERM)
        assert peer.until("reconnect")["after_ms"] >= 0
        assert peer.closed() == (1012, "service restart")
    assert service.wait() == 0
    assert not any(child.is_running() for child in children)


def test_poison_records_are_skipped_counted_and_located(
    serve: Serve, records: Records, topic: str
) -> None:
    service = serve(kafka={"max_record_bytes": 2048}, server={"workers": 1}).ready()
    poison: list[bytes | None] = [
        None,
        b"",
        b"  ",
        b"not json",
        b"[1,2]",
        b"17",
        b'{"n":NaN}',
        b'{"n":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"deep":' * 2000 + b"1" + b"}" * 2000,
        b'{"pad":"' + b"x" * 4096 + b'"}',
    ]
    with open_peer(service) as peer:
        peer.subscribe()
        for value in poison:
            records.raw(value, 1)
            records.send(1)
        records.flush()
        assert sorted(peer.numbers(len(poison))) == list(range(len(poison)))
        position = peer.subscribe()["position"]
    children = service.admin("/workers")[1]
    (consumer,) = _children(children, "consumer")
    assert consumer["board"]["bad_records"] == len(poison)
    line = service.wait_logged("record skipped")
    assert f"topic={topic}" in line
    assert "partition=1" in line
    assert "offset=0" in line
    # A client that resumes from the position after the bad record does not get it.
    with open_peer(service) as peer:
        assert peer.subscribe(resume={"energy": position})["replayed"] == 0


def test_records_that_retention_removes_unread_are_reported_missing(
    serve: Serve, records: Records, broker: Broker, topic: str
) -> None:
    service = serve(supervision={"hang_seconds": 60}).ready()
    with open_peer(service) as peer:
        peer.subscribe()
        records.send(30)
        assert sorted(peer.numbers(30)) == list(range(30))
        consumer = service.children()["consumer"]
        consumer.suspend()
        # A fetch that is in flight returns the first of these; no other fetch follows.
        records.send(3)
        records.send(60)
        # In partition 1, offsets 10 to 30 are new; those below 20 are removed, read or not.
        broker.trim(topic, 1, 20)
        consumer.resume()
        gap = peer.until("lagged")
        epoch, _, before = gap["from"].partition("-")
        first = int(before.split(".")[1])
        assert 10 <= first < 20
        assert (gap["missed"], gap["reason"]) == (20 - first, "RETENTION")
        assert gap["to"].split(".")[1] == "20"
        service.wait_logged("records lost", f"first_offset={first}", "last_offset=19")
        # The new records, minus the lost ones, plus the message that reports the gap.
        replayed = 63 - (20 - first) + 1
        service.caught_up(records, less=20 - first - 1)
    with open_peer(service) as peer:
        reply = peer.subscribe(resume={"energy": f"{epoch}-10.10.10"})
        assert (reply["recovered"], reply["replayed"]) == (True, replayed)
        assert peer.until("lagged")["missed"] == 20 - first
    with open_peer(service) as peer:
        # A client that resumes after the gap gets no report of it.
        reply = peer.subscribe(resume={"energy": f"{epoch}-10.20.10"})
        assert reply["replayed"] == replayed - 1 - (first - 10)
        assert len(peer.numbers(reply["replayed"])) == reply["replayed"]


def test_restart_of_the_whole_service_loses_nothing(serve: Serve, records: Records) -> None:
    service = serve().ready()
    with open_peer(service) as peer:
        peer.subscribe()
        records.send(9)
        seen = [peer.until("data") for _ in range(9)]
    assert service.stop() == 0
    missed = records.send(30)
    again = serve().ready()
    with open_peer(again) as peer:
        reply = peer.subscribe(resume={"energy": seen[-1]["id"]})
        assert (reply["recovered"], reply["replayed"]) == (True, 30)
        assert sorted(peer.numbers(30)) == missed


def test_offsets_are_committed_so_that_lag_shows(
    serve: Serve, records: Records, broker: Broker, topic: str
) -> None:
    group = f"group-of-{topic}"
    service = serve(kafka={"group_id": group, "commit_interval_seconds": 0.2}).ready()
    records.send(9)
    reader = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]

    def committed() -> list[int]:
        return [place.offset for place in reader.committed(places, timeout=10)]

    eventually(lambda: committed() == [3, 3, 3], "published offsets are committed")
    records.send(3)
    service.caught_up(records)
    assert service.stop() == 0
    eventually(lambda: committed() == [4, 4, 4], "the rest is committed at the end")
    reader.close()


def test_recreated_topic_is_announced_and_read_from_its_start(
    serve: Serve, records: Records, broker: Broker, topic: str
) -> None:
    service = serve(server={"workers": 1}).ready()
    with open_peer(service) as peer:
        peer.subscribe()
        records.send(9)
        peer.numbers(9)
        old = peer.subscribe()["position"]
        broker.delete_topic(topic)
        broker.create_topic(topic)
        again = Records(broker.bootstrap, topic)
        again.send(3)
        gap = peer.until("lagged")
        assert (gap["reason"], gap["missed"]) == ("EPOCH_CHANGED", None)
        assert sorted(peer.numbers(3)) == [0, 1, 2]
    with open_peer(service) as peer:
        reply = peer.subscribe(resume={"energy": old})
        assert (reply["recovered"], reply["reason"]) == (False, "EPOCH_CHANGED")
        assert sorted(peer.numbers(3)) == [0, 1, 2]


def test_added_partition_is_read_from_its_start(
    serve: Serve, records: Records, broker: Broker, topic: str
) -> None:
    if not isinstance(broker, ExternalBroker):
        pytest.skip("the embedded broker cannot add a partition to a topic")
    service = serve(server={"workers": 1}).ready()
    with open_peer(service) as peer:
        position = peer.subscribe()["position"]
        broker.add_partitions(topic, 4)
        more = Records(broker.bootstrap, topic)
        eventually(lambda: more.partitions() == 4, "the producer knows the new partition")
        for number in range(3):
            more.raw(orjson.dumps({"n": number}), 3)
        more.flush()
        assert peer.numbers(3) == [0, 1, 2]
    with open_peer(service) as peer:
        # A client that resumes from before the partition existed gets it from its start.
        assert peer.subscribe(resume={"energy": position})["replayed"] == 3
        assert peer.numbers(3) == [0, 1, 2]


def test_broker_that_starts_after_the_service(
    broker: Broker, topic: str, records: Records, tmp_path: Path
) -> None:
    host, _, port = broker.bootstrap.partition(":")
    with TcpProxy(host, int(port)) as proxy:
        proxy.cut()
        settings = config(f"127.0.0.1:{proxy.port}", topic, server={"workers": 1})
        with Service(tmp_path, settings) as service:
            with open_peer(service) as peer:
                assert peer.ask({"type": "ping"})["type"] == "pong"
                peer.send({"type": "subscribe", "streams": ["energy"]})
                assert peer.until("notice")["code"] == "STREAM_UNAVAILABLE"
                status, answer = service.admin("/ready")
                assert (status, answer["ready"]) == (503, False)
                assert answer["reasons"]
                assert service.admin("/live")[0] == 200
                service.wait_logged("broker is not reachable")
                proxy.restore()
                peer.until("subscribed")
                service.ready()
                numbers = records.send(5)
                assert sorted(peer.numbers(5)) == numbers
            assert len(service.logged("broker is not reachable")) == 1


def test_topic_that_is_created_after_the_service_starts(
    broker: Broker, topic: str, records: Records, tmp_path: Path
) -> None:
    late = f"{topic}-late"
    settings = config(broker.bootstrap, late, server={"workers": 1})
    with Service(tmp_path, settings) as service, open_peer(service) as peer:
        peer.send({"type": "subscribe", "streams": ["energy"]})
        assert peer.until("notice")["code"] == "STREAM_UNAVAILABLE"
        service.wait_logged("topic cannot be read", f"topic={late}")
        status, answer = service.admin("/ready")
        assert status == 503
        assert "stream energy: the topic does not exist" in answer["reasons"]
        broker.create_topic(late)
        assert peer.until("subscribed")["streams"] == ["energy"]
        numbers = Records(broker.bootstrap, late).send(3)
        assert sorted(peer.numbers(3)) == numbers
        assert len(service.logged("topic cannot be read")) == 1


def test_wss(serve: Serve, records: Records, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        f"-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}",
        shell=True,
        check=True,
        capture_output=True,
    )
    service = serve(server={"tls": {"cert": str(certificate), "key": str(key)}}).ready()
    trust = ssl.create_default_context(cafile=str(certificate))
    # Bare sockets: websockets' threads share an SSL object, which Python 3.11 does not allow.
    with bare_socket(service, trust) as first, bare_socket(service, trust) as second:
        for client in (first, second):
            client.sendall(upgrade_request(service, query="?subscribe=energy"))
            assert " 101 " in response_head(client)
        numbers = records.send(50)
        for client in (first, second):
            assert sorted(_read_all(client, 50)[0]) == numbers
    # Plain HTTP on the TLS port, and clients that distrust the certificate, do no harm.
    before = len(service.lines)
    for _ in range(20):
        with bare_socket(service) as plain:
            plain.sendall(upgrade_request(service))
            plain.settimeout(PATIENCE_SECONDS)
            # The service reads its first bytes only, so the connection is reset.
            with contextlib.suppress(ConnectionResetError):
                assert b"101" not in plain.recv(4096)
        with pytest.raises(ssl.SSLCertVerificationError):
            bare_socket(service, ssl.create_default_context())
    assert len(service.lines) - before < 10
    with bare_socket(service, trust) as client:
        client.sendall(upgrade_request(service))
        assert " 101 " in response_head(client)


def _ping_without_reading(client: socket.socket, frames: bytes, seconds: float) -> int:
    """Write pings until the peer stops reading; the number of bytes that it took."""
    client.settimeout(1.0)
    taken = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            taken += client.send(frames)
        except (TimeoutError, ConnectionError):
            break
    return taken


@pytest.mark.parametrize(
    "message", [masked(9, b"x" * 125), masked(1, b'{"type":"ping"}')], ids=["ping", "JSON ping"]
)
def test_client_that_pings_and_never_reads_costs_no_memory(
    serve: Serve, records: Records, message: bytes
) -> None:
    service = serve(server={"workers": 1, "messages_per_second": 1e9}).ready()
    worker = service.children()["worker-0"]
    before = worker.memory_info().rss
    with bare_socket(service) as client, open_peer(service) as honest:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(upgrade_request(service))
        response_head(client)
        taken = _ping_without_reading(client, message * 500, 10.0)
        # The service stopped reading, so the client could not continue for ever.
        assert taken < 64 << 20
        honest.subscribe()
        numbers = records.send(3)
        assert sorted(honest.numbers(3)) == numbers
        assert worker.memory_info().rss - before < 8 << 20


def test_client_that_stops_reading_gets_a_report_of_the_gap(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1}, history={"max_frames": 50}).ready()
    with bare_socket(service) as slow, open_peer(service) as quick:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.sendall(upgrade_request(service, query="?subscribe=energy"))
        response_head(slow)
        quick.subscribe()
        sent = 0
        # More than the socket's buffers and the ring hold together.
        while sent < 400:
            records.send(50, pad="x" * 20_000)
            sent += 50
            assert len(quick.numbers(50)) == 50
        numbers, gaps = _read_all(slow, sent)
    assert gaps, "the buffers took everything: nothing was tested"
    assert len(numbers) == len(set(numbers))
    assert len(numbers) + sum(gaps) == sent


def _read_all(client: socket.socket, sent: int) -> tuple[list[int], list[int]]:
    """The numbers received and the sizes of the reported gaps, until they add up to `sent`."""
    client.settimeout(PATIENCE_SECONDS)
    numbers: list[int] = []
    gaps: list[int] = []
    data = b""
    while len(numbers) + sum(gaps) < sent:
        piece = client.recv(1 << 20)
        assert piece, "the connection has ended"
        data += piece
        while (frame := first_frame(data)) is not None:
            payload, data = frame
            message = orjson.loads(payload)
            if message["type"] == "data":
                numbers.append(message["data"]["n"])
            elif message["type"] == "lagged":
                gaps.append(message["missed"])
    return numbers, gaps


def test_max_connections_counts_over_all_workers(serve: Serve) -> None:
    service = serve(server={"workers": 2, "max_connections": 10}).ready()
    peers = [open_peer(service) for _ in range(10)]
    with pytest.raises(InvalidStatus) as refused:
        open_peer(service)
    response = refused.value.response
    assert response.status_code == 503
    assert 1 <= int(response.headers["Retry-After"]) <= 5
    assert orjson.loads(response.body or b"")["code"] == "TOO_MANY_CONNECTIONS"
    peers.pop().close()

    def admitted() -> bool:
        try:
            peers.append(open_peer(service))
        except InvalidHandshake:
            return False
        return True

    eventually(admitted, "a new client is accepted in place of the closed one")
    for peer in peers:
        peer.close()


def test_silent_handshake_is_ended(serve: Serve) -> None:
    service = serve(server={"workers": 1, "handshake_timeout_seconds": 0.3}).ready()
    with bare_socket(service) as client:
        client.sendall(b"GET /ws/energy HTTP/1.1\r\nHost: x\r\n")
        client.settimeout(PATIENCE_SECONDS)
        assert client.recv(1) == b""


def test_client_without_pong_is_dropped(serve: Serve) -> None:
    service = serve(
        server={"workers": 1, "ping_interval_seconds": 0.5, "pong_timeout_seconds": 0.5}
    ).ready()
    with bare_socket(service) as dead, open_peer(service) as alive:
        dead.sendall(upgrade_request(service))
        response_head(dead)
        assert close_code(dead) == 4000
        assert alive.ask({"type": "ping"})["type"] == "pong"


def test_token_that_expires_ends_the_connection_unless_renewed(serve: Serve) -> None:
    service = serve(
        server={"workers": 1}, auth={"leeway_seconds": 0, "expiry_notice_seconds": 1}
    ).ready()

    def short_lived() -> dict[str, str]:
        claims = {"sub": "tester", "exp": time.time() + 2.5}
        return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}

    with open_peer(service, additional_headers=short_lived()) as peer:
        assert peer.until("notice")["code"] == "TOKEN_EXPIRING"
        assert peer.receive()["code"] == "TOKEN_EXPIRED"
        assert peer.closed() == (4401, "token expired")
    with open_peer(service, additional_headers=short_lived()) as peer:
        assert peer.until("notice")["code"] == "TOKEN_EXPIRING"
        peer.send({"type": "auth", "token": token("somebody else")})
        assert peer.receive()["code"] == "UNAUTHORIZED"
        peer.send({"type": "auth", "token": token()})
        assert peer.receive()["type"] == "authenticated"
        with pytest.raises(TimeoutError):
            peer.receive(4.0)


def test_no_token_reaches_a_log(serve: Serve) -> None:
    service = serve(log={"level": "DEBUG"}).ready()
    canary = "CANARY" + "x" * 30
    for query, headers in (
        (f"?token={canary}", {}),
        ("", {"Authorization": f"Bearer {canary}"}),
        ("", {"Sec-WebSocket-Protocol": f"energyws, bearer.{canary}"}),
        (f"?token={canary}", {"Origin": "https://x", "Host": "y"}),
    ):
        try:
            with open_peer(service, query=query, additional_headers=headers) as peer:
                peer.receive()
        except InvalidHandshake:
            pass
    with bare_socket(service) as client:
        client.sendall(f"GET /ws/energy?token={canary} x HTTP/1.1\r\n\r\n".encode())
        response_head(client)
    with open_peer(service) as peer:
        peer.send({"type": "auth", "token": canary})
        peer.receive()
    assert service.stop() == 0
    text = "\n".join(service.lines)
    assert canary not in text
    assert SECRET not in text
    assert "WebSocket client connected" in text
    assert "WebSocket client disconnected" in text


def test_crash_loop_ends_the_service_and_says_why(serve: Serve, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    service = serve(server={"tls": {"cert": missing, "key": missing}})
    assert service.wait() == 2
    assert "server.tls.cert" in "\n".join(service.lines)


def test_worker_that_runs_out_of_descriptors_stays_calm(
    broker: Broker, topic: str, records: Records, tmp_path: Path
) -> None:
    settings = config(broker.bootstrap, topic, server={"workers": 1})
    with Service(tmp_path, settings, descriptors=160) as service:
        service.ready()
        worker = service.children()["worker-0"]
        crowd = [bare_socket(service) for _ in range(200)]
        service.wait_logged("accepting is paused")
        before = sum(worker.cpu_times()[:2])
        lines = len(service.lines)
        # Long enough for a busy loop to show.
        time.sleep(1.0)
        assert sum(worker.cpu_times()[:2]) - before < 0.3
        assert len(service.lines) - lines < 10
        for client in crowd:
            client.close()
        with open_peer(service) as peer:
            peer.subscribe()
            numbers = records.send(3)
            assert sorted(peer.numbers(3)) == numbers


def test_new_clients_wait_at_the_limit_of_open_files(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    settings = config(broker.bootstrap, topic, server={"workers": 1})
    with Service(tmp_path, settings, descriptors=150) as service, ExitStack() as stack:
        service.ready()
        inside: list[Peer] = []
        while not service.admin("/workers")[1][1]["board"]["full_since_ms"]:
            inside.append(stack.enter_context(open_peer(service)))
        waiting = [stack.enter_context(bare_socket(service)) for _ in range(6)]
        for client in waiting:
            client.sendall(upgrade_request(service))
            client.setblocking(False)
        eventually(
            lambda: service.admin("/ready")[1]["reasons"] == [NO_ROOM], "/ready reports the limit"
        )
        for client in waiting:
            with pytest.raises(BlockingIOError):
                client.recv(1)
        for peer in inside[:20]:
            peer.close()
        for client in waiting:
            client.settimeout(PATIENCE_SECONDS)
            assert " 101 " in response_head(client)
        assert service.admin("/ready")[0] == 200


def test_limit_too_low_for_any_client_is_a_reason_not_to_be_ready(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    settings = config(broker.bootstrap, topic, server={"workers": 1})
    with Service(tmp_path, settings, descriptors=80) as service:
        service.wait_logged("accepting is paused")
        eventually(lambda: service.admin("/ready")[1]["reasons"] == [NO_ROOM], "/ready says so")


def test_jwks_of_several_issuers(serve: Serve) -> None:
    with Issuer("a", "RS256") as first, Issuer("b", "ES256") as second:
        service = serve(
            server={"workers": 1},
            auth={
                # JWKS wins over a secret beside it.
                "jwt_secret": SECRET,
                "issuers": [
                    {"name": one.kid, "issuer": one.name, "jwks_url": one.url}
                    for one in (first, second)
                ],
            },
        ).ready()

        def status(bearer: str) -> int:
            try:
                with open_peer(service, additional_headers={"Authorization": f"Bearer {bearer}"}):
                    return 101
            except InvalidStatus as refused:
                return refused.response.status_code

        eventually(lambda: status(first.token()) == 101, "the first issuer's keys are fetched")
        eventually(lambda: status(second.token()) == 101, "the second issuer's keys are fetched")
        # The refusal is final once the worker has fetched that issuer's keys again.
        strange = first.token(iss=second.name)
        assert status(strange) in (503, 401)
        eventually(lambda: status(strange) == 401, "a token of another issuer's key is refused")
        assert status(second.token(iss="https://stranger.example")) == 401
        assert status(token()) == 401
        # A new key is fetched once a token names it.
        fetched = first.fetches
        first.rotate()
        eventually(lambda: status(first.token()) == 101, "the rotated key is known")
        assert first.fetches == fetched + 1
