"""The attacker's connections, against sockets of the test."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.attacks.held import Held, Until
from bench.attacks.target import Plan, Target, address
from energyws.testing import eventually

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def attacked(serve: Serve, count: int, begin: bytes, **options: Any) -> Iterator[Target]:
    """`count` connections to a server that does this with each; the attack ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted = []

        def accept() -> None:
            # Closing the server ends it.
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    accepted.append(connection)
                    serve(connection)

        target = Target(
            Plan(
                name="test",
                port=server.getsockname()[1],
                admin_port=0,
                tokens=["one"],
                epoch="",
                seconds=60,
            )
        )
        held = Held(target, count, lambda number: begin, rate=500, **options)
        threads = [threading.Thread(target=accept), threading.Thread(target=held.run)]
        for thread in threads:
            thread.start()
        try:
            yield target
        finally:
            target.end()
            threads[1].join()
            server.shutdown(socket.SHUT_RDWR)
            threads[0].join()
            for connection in accepted:
                connection.close()


def answer(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")


def test_connections_are_held_and_counted_by_their_status() -> None:
    with attacked(answer, 5, b"GET") as target:
        eventually(lambda: target.counts["status 101"] == 5, "five are answered")
    assert target.counts["held"] == target.counts["open"] == target.counts["opened"] == 5
    assert target.counts["closed"] == 0


def test_closed_connections_are_counted_and_opened_again() -> None:
    with attacked(lambda connection: connection.close(), 1, b"") as target:
        eventually(lambda: target.counts["closed"] >= 3, "three were closed")
    assert target.counts["opened"] >= 3
    assert target.counts["held"] == 0


@pytest.mark.parametrize("until", [Until.ANSWERED, Until.READ])
def test_answered_connections_make_room_for_others(until: Until) -> None:
    def answer_and_close(connection: socket.socket) -> None:
        answer(connection)
        connection.close()

    with attacked(answer_and_close, 1, b"GET", until=until) as target:
        eventually(lambda: target.counts["status 101"] >= 3, "three are answered")
    assert target.counts["closed"] == 0


def test_words_are_sent_on_each_connection() -> None:
    words = []

    def listen(connection: socket.socket) -> None:
        answer(connection)
        while b"word" not in words:
            words.append(connection.recv(4))

    with attacked(listen, 1, b"GET", word=lambda: b"word", pause=0.01):
        eventually(lambda: b"word" in words, "a word has come")


def test_no_more_is_read_than_the_attack_says() -> None:
    def flood(connection: socket.socket) -> None:
        answer(connection)
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                connection.send(bytes(1 << 16))

    with attacked(flood, 1, b"GET", read_bytes=1) as target:
        eventually(lambda: target.counts["status 101"], "it is answered")
    assert 0 < target.counts["bytes read"] <= 1 << 18


def test_attack_ends_in_time() -> None:
    plan = Plan(name="test", port=0, admin_port=0, tokens=["one"], epoch="", seconds=0.05)
    target = Target(plan)
    assert 0 < len(list(target.paced(1_000))) < 1_000
    assert not target.going


def test_attackers_have_addresses_of_their_own() -> None:
    made = {address(number) for number in range(600)}
    assert len(made) == 600
    assert address(0) == "127.0.9.1"
    assert address(599) == "127.0.11.100"
