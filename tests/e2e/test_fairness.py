"""One address, subject or token takes no more than its share, and 20 others have all of theirs."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from energyws.testing import (
    PATIENCE_SECONDS,
    Broker,
    Records,
    Service,
    config,
    eventually,
    token,
)
from tests.clients import Peer, open_peer, upgrade_request
from tests.conftest import new_topic
from tests.http_clients import request
from workers.websocket.fanout.catch_up import CATCH_UP_BYTES

pytestmark = [pytest.mark.e2e, pytest.mark.edge]
Serve = Callable[..., Service]

WORKERS = 2
OTHERS = range(1, 21)
TRIES = 30
SHARE = 3
LIMITS = {
    "connections_per_address": SHARE,
    "connections_per_subject": SHARE,
    "connections_per_token": SHARE - 1,
    "pending_per_address": 10,
    "new_connections_per_address_per_second": 50,
    "messages_per_subject_per_second": 20,
}


@pytest.fixture(scope="module")
def fair(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with room for everybody's share, and no more."""
    server = {"workers": WORKERS, "max_connections": SHARE * (len(OTHERS) + 1)}
    chosen = config(broker.bootstrap, new_topic(broker), server=server, limits=LIMITS)
    with Service(tmp_path_factory.mktemp("fair"), chosen) as service:
        yield service.ready()


@pytest.fixture
def clients(fair: Service) -> Iterator[Clients]:
    with ExitStack() as stack:
        made = Clients(fair, stack)
        yield made
    assert made.refusals <= {429}
    eventually(lambda: taken(fair) == 0, "nothing is counted any more")


def taken(service: Service) -> int:
    return sum(each["connections"] + each["pending"] for each in service.boards().values())


class Clients:
    """Clients of one test, which are closed at its end."""

    def __init__(self, service: Service, stack: ExitStack) -> None:
        self.service = service
        self.refusals: set[int] = set()
        self._stack = stack

    def connected(self, host: str, bearer: str, count: int) -> list[Peer]:
        """As many of `count` as are let in."""
        headers = {"Authorization": f"Bearer {bearer}"}
        found = []
        for _ in range(count):
            try:
                peer = open_peer(self.service, additional_headers=headers, source_address=(host, 0))
            except InvalidStatus as refused:
                self.refusals.add(refused.response.status_code)
            else:
                found.append(self._stack.enter_context(peer))
        return found

    def bare(self, host: str) -> socket.socket:
        address = ("127.0.0.1", self.service.port)
        return self._stack.enter_context(
            socket.create_connection(address, PATIENCE_SECONDS, (host, 0))
        )

    def others_are_served(self, block: int, count: int = SHARE) -> None:
        """Each of the others has its share, and is answered. block: no other test has it."""
        for number in OTHERS:
            bearer = token(f"honest-{block}-{number}")
            peers = self.connected(f"127.0.{block}.{number}", bearer, count)
            assert len(peers) == count
            peers[0].subscribe()


def test_one_address_has_its_share(clients: Clients) -> None:
    found = [clients.connected("127.0.1.0", token(f"one-{n}"), 1) for n in range(TRIES)]
    assert sum(map(len, found)) == SHARE
    clients.others_are_served(1, SHARE - 1)


def test_one_subject_has_its_share(clients: Clients) -> None:
    found = [
        clients.connected(f"127.0.2.{100 + n}", token("greedy", 3600 + n), 1) for n in range(TRIES)
    ]
    assert sum(map(len, found)) == SHARE
    clients.others_are_served(2, SHARE - 1)


def test_one_token_has_its_share(clients: Clients) -> None:
    stolen = token("robbed")
    found = [clients.connected(f"127.0.3.{100 + n}", stolen, 1) for n in range(TRIES)]
    assert sum(map(len, found)) == LIMITS["connections_per_token"]
    clients.others_are_served(3, SHARE - 1)


def test_silent_connections_of_one_address_have_their_share(clients: Clients) -> None:
    for _ in range(TRIES):
        clients.bare("127.0.4.0")
    clients.others_are_served(4, SHARE - 1)
    # Each worker may have let one in that the other one did not see yet.
    most = LIMITS["pending_per_address"] + WORKERS - 1
    eventually(lambda: taken(clients.service) <= most + (SHARE - 1) * len(OTHERS), "no more wait")


def test_one_address_that_connects_again_and_again_has_its_share(clients: Clients) -> None:
    began, answers, asked = time.monotonic(), 0, 300
    for _ in range(asked):
        answers += answered(clients.bare("127.0.5.0"), request(clients.service, "/health"))
    seconds = time.monotonic() - began
    # Seconds are the machine's, so the first and the last may be parts of one.
    assert answers <= LIMITS["new_connections_per_address_per_second"] * (int(seconds) + 2)
    clients.others_are_served(5, SHARE - 1)


def answered(connection: socket.socket, data: bytes) -> bool:
    try:
        connection.sendall(data)
        return connection.recv(64).startswith(b"HTTP/1.1 200 ")
    except ConnectionError:
        return False
    finally:
        connection.close()


def test_one_subject_that_sends_much_is_closed_and_others_are_answered(clients: Clients) -> None:
    (peer,) = clients.connected("127.0.6.0", token("talker"), 1)
    # Seconds may change in between.
    with contextlib.suppress(ConnectionClosed):
        for _ in range(10 * LIMITS["messages_per_subject_per_second"]):
            peer.send({"type": "ping"})
    assert peer.closed()[0] == 1008
    clients.others_are_served(6, SHARE - 1)


class Drawing(threading.Thread):
    """Takes whatever comes, as fast as it comes, until `end`; size: its bytes so far."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(daemon=True)
        self.size = 0
        self._connection = connection
        self.start()

    def run(self) -> None:
        while data := self._connection.recv(1 << 16):
            self.size += len(data)

    def end(self) -> None:
        self._connection.shutdown(socket.SHUT_RDWR)
        self.join(PATIENCE_SECONDS)


def test_past_records_of_one_subject_come_at_its_pace(serve: Serve, records: Records) -> None:
    pace, drawing = 64 * 1024, 4
    service = serve(
        server={"workers": WORKERS}, limits={"replay_bytes_per_subject_per_second": pace}
    ).ready()
    sent = len(records.send(1_000, pad="x" * 2_000))
    service.caught_up(records)
    with ExitStack() as stack:
        began = time.monotonic()
        greedy = []
        for _ in range(drawing):
            connection = stack.enter_context(
                socket.create_connection(("127.0.0.1", service.port), PATIENCE_SECONDS)
            )
            bearer = f"Authorization: Bearer {token('greedy')}"
            query = f"?subscribe=energy&last={sent}"
            connection.sendall(upgrade_request(service, bearer, query=query))
            greedy.append(Drawing(connection))
        service.wait_logged("replay is slowed down", "subject=greedy")
        for number in OTHERS:
            headers = {"Authorization": f"Bearer {token(f'honest-{number}')}"}
            with open_peer(service, additional_headers=headers) as peer:
                peer.subscribe(last=5)
                assert len(peer.numbers(5)) == 5
        size = sum(each.size for each in greedy)
        seconds = int(time.monotonic() - began) + 2
        # A write is not cut, and each worker may have begun one when the other used up the share.
        assert 0 < size <= seconds * (pace + WORKERS * CATCH_UP_BYTES) + drawing * 4096
        for each in greedy:
            each.end()
