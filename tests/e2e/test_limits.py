"""Limits of a service with two workers: who has its share is refused, and nobody else."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from websockets.exceptions import InvalidStatus

from energyws.testing import PATIENCE_SECONDS, Service, eventually, token
from tests.clients import Peer, open_peer
from tests.http_clients import request
from workers.websocket.accept.listener import ACCEPTS_PER_TURN

pytestmark = [pytest.mark.e2e, pytest.mark.edge]
Serve = Callable[..., Service]


def connect(service: Service, subject: str, host: str = "127.0.0.1") -> Peer:
    headers = {"Authorization": f"Bearer {token(subject)}"}
    return open_peer(service, additional_headers=headers, source_address=(host, 0))


def refusal(service: Service, *arguments: str) -> tuple[int, str]:
    """The status and body of the answer to a client that is refused."""
    with pytest.raises(InvalidStatus) as refused, connect(service, *arguments):
        pass
    response = refused.value.response
    assert response.headers["Retry-After"]
    return response.status_code, response.body.decode()


@pytest.fixture
def peers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_shares_are_of_all_workers_and_change_at_once(serve: Serve, peers: ExitStack) -> None:
    limits = {"connections_per_address": 6, "connections_per_subject": 4}
    service = serve(server={"workers": 2}, limits=limits).ready()
    for _ in range(4):
        peers.enter_context(connect(service, "greedy"))
    status, body = refusal(service, "greedy")
    assert status == 429
    assert "CONNECTION_LIMIT" in body
    assert "limits.connections_per_subject" in body
    for _ in range(2):
        peers.enter_context(connect(service, "honest"))
    assert "limits.connections_per_address" in refusal(service, "another")[1]
    # From elsewhere there is room.
    peers.enter_context(connect(service, "another", "127.0.0.7"))
    service.wait_logged("connection refused", "subject=greedy", "connections_per_subject")
    reload(service, 1)
    with connect(service, "greedy") as peer:
        peer.subscribe()
    reload(service, 2, connections_per_subject=3)
    # Those that are there stay, and count.
    assert refusal(service, "greedy")[0] == 429


def reload(service: Service, count: int, **limits: int) -> None:
    """Have the workers use these limits; it is the reload number `count`."""
    service.config["limits"] = limits
    service.write_config()
    service.signal(signal.SIGHUP)
    eventually(
        lambda: all(board["reloads"] == count for board in service.boards().values()),
        f"{count} reloads",
    )


def test_dead_worker_gives_back_what_its_clients_took(serve: Serve, peers: ExitStack) -> None:
    service = serve(server={"workers": 1}, limits={"connections_per_subject": 2}).ready()
    for _ in range(2):
        peers.enter_context(connect(service, "meter"))
    assert refusal(service, "meter")[0] == 429
    os.kill(service.boards()["worker-0"]["pid"], signal.SIGKILL)

    def connected() -> bool:
        try:
            connect(service, "meter").close()
        except (OSError, EOFError, InvalidStatus):
            return False
        return True

    eventually(connected, "the places are free again")


def test_flood_of_silent_connections_keeps_nobody_out(serve: Serve, peers: ExitStack) -> None:
    service = serve(
        server={"workers": 2, "handshake_timeout_seconds": 60}, limits={"pending_connections": 100}
    ).ready()
    address = ("127.0.0.1", service.port)
    for _ in range(300):
        peers.enter_context(socket.create_connection(address, PATIENCE_SECONDS))
    with connect(service, "honest", "127.0.0.9") as peer:
        peer.subscribe()
    # Beside the limit, a worker serves at least so many of its own.
    eventually(lambda: pending(service) <= 100 + 2 * ACCEPTS_PER_TURN, "no more wait than may")
    service.wait_logged("too many connections wait: closing the oldest")


def test_connections_that_ask_again_and_again_keep_nobody_out(
    serve: Serve, peers: ExitStack
) -> None:
    service = serve(server={"workers": 2}, limits={"pending_connections": 100}).ready()
    address = ("127.0.0.1", service.port)
    asking = [
        peers.enter_context(socket.create_connection(address, PATIENCE_SECONDS)) for _ in range(300)
    ]
    over = threading.Event()

    def ask() -> None:
        # None of them is ever idle for long.
        while not over.is_set():
            for each in asking:
                with contextlib.suppress(OSError):
                    each.send(request(service, "/health"), socket.MSG_DONTWAIT)
                    each.recv(65536, socket.MSG_DONTWAIT)

    attack = threading.Thread(target=ask)
    attack.start()
    try:
        eventually(lambda: pending(service) >= 100, "as many wait as may")
        for number in range(20):
            with connect(service, "honest", f"127.0.0.{number + 2}") as peer:
                peer.subscribe()
    finally:
        over.set()
        attack.join()


def test_counts_hold_while_workers_come_and_go(serve: Serve, peers: ExitStack) -> None:
    service = serve(server={"workers": 2}, limits={"connections_per_subject": 3}).ready()

    def room() -> int:
        """How many clients of the subject are let in beside those that are there."""
        with ExitStack() as stack:
            for count in itertools.count():
                try:
                    stack.enter_context(connect(service, "meter"))
                except InvalidStatus:
                    return count
                except (OSError, EOFError):
                    # A worker has just ended.
                    return -1
        raise AssertionError("unreachable")

    held = [peers.enter_context(connect(service, "meter")) for _ in range(2)]
    assert room() == 1
    before = {child.pid for child in service.children().values()}
    service.signal(signal.SIGUSR2)
    # All clients were sent away, by workers that counted until they had gone.
    for peer in held:
        assert peer.closed()[0] == 1012
    eventually(
        lambda: not before & {child.pid for child in service.children().values()},
        "a rolling restart",
    )
    service.ready()
    eventually(lambda: room() == 3, "the clients of workers that have ended count no more")
    eventually(lambda: connections(service) == 0, "they have gone")
    for _ in range(2):
        peers.enter_context(connect(service, "meter"))
    service.config["server"]["workers"] = 1
    service.write_config()
    service.signal(signal.SIGHUP)
    eventually(lambda: len(service.children()) == 2, "one worker is left")
    left = connections(service)
    eventually(lambda: room() == 3 - left, "those of the other one count no more")


def connections(service: Service) -> int:
    return sum(board["connections"] for board in service.boards().values())


def pending(service: Service) -> int:
    return sum(board["pending"] for board in service.boards().values())
