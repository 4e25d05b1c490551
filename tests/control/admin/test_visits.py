"""Connections that only take up room make way for others."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from energyws.control.admin.visits import Visits

SECONDS = 5.0


class Play:
    """Room for three; its own clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.visits = Visits(3, SECONDS, lambda: self.now)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []

    def connection(self) -> socket.socket:
        """Our end of a new connection."""
        self._pairs.append(socket.socketpair())
        return self._pairs[-1][0]

    def begun(self, address: str) -> socket.socket:
        made = self.connection()
        assert self.visits.begin(made, address)
        return made

    def ended(self, connection: socket.socket) -> bool:
        """Whether its client has seen the end."""
        (client,) = (client for ours, client in self._pairs if ours is connection)
        client.setblocking(False)
        try:
            return client.recv(1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        for pair in self._pairs:
            for each in pair:
                each.close()


@pytest.fixture
def play() -> Iterator[Play]:
    made = Play()
    yield made
    made.close()


def test_oldest_of_the_greediest_makes_way(play: Play) -> None:
    probe = play.begun("kubelet")
    first, second = play.begun("stranger"), play.begun("stranger")
    third = play.begun("stranger")
    assert [play.ended(each) for each in (probe, first, second, third)] == [
        False,
        True,
        False,
        False,
    ]
    assert play.visits.answering(probe)
    assert not play.visits.answering(first)


def test_who_is_being_answered_stays(play: Play) -> None:
    busy = [play.begun("a") for _ in range(3)]
    assert all(map(play.visits.answering, busy))
    assert not play.visits.begin(play.connection(), "b")
    play.now += 10 * SECONDS
    play.visits.drop_overdue()
    assert not any(map(play.ended, busy))
    play.visits.end(busy[0])
    assert play.visits.begin(play.connection(), "b")


def test_who_does_not_take_the_answer_makes_way(play: Play) -> None:
    busy = [play.begun("a") for _ in range(3)]
    for each in busy:
        play.visits.answering(each)
    play.visits.sending(busy[1])
    play.begun("b")
    assert [play.ended(each) for each in busy] == [False, True, False]


def test_time_is_counted_from_the_beginning_of_each_wait(play: Play) -> None:
    slow, quick = play.begun("a"), play.begun("a")
    play.now += SECONDS - 1
    play.visits.answering(quick)
    play.visits.sending(quick)
    play.visits.drop_overdue()
    assert not play.ended(slow)
    play.now += 1
    play.visits.drop_overdue()
    assert play.ended(slow)
    assert not play.ended(quick)
    play.now += SECONDS
    play.visits.drop_overdue()
    assert play.ended(quick)


def test_end_may_come_after_the_drop(play: Play) -> None:
    gone = play.begun("a")
    play.now += SECONDS
    play.visits.drop_overdue()
    play.visits.end(gone)
    play.visits.sending(gone)
    for _ in range(3):
        play.begun("a")
