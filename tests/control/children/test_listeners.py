"""New connections go to the right socket, and none is lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from energyws.control.children.listeners import Listeners
from energyws.settings import Server

COUNT = 60


@pytest.fixture
def listeners() -> Iterator[Listeners]:
    made = Listeners(Server(host="127.0.0.1", port=0), 3)
    yield made
    made.close()


def spread(listeners: Listeners, slots: int) -> list[int]:
    """The number of connections, out of COUNT, that each slot gets."""
    clients = [socket.create_connection(("127.0.0.1", listeners.port)) for _ in range(COUNT)]
    found = []
    for slot in range(slots):
        listening = socket.socket(fileno=socket.dup(listeners.claim(slot)))
        with listening:
            listening.setblocking(False)
            found.append(0)
            while True:
                try:
                    listening.accept()[0].close()
                except BlockingIOError:
                    break
                found[-1] += 1
    for client in clients:
        client.close()
    assert sum(found) == COUNT
    return found


@pytest.mark.parametrize("slots", [(0,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_connections_reach_exactly_the_steered_slots(
    listeners: Listeners, slots: tuple[int, ...]
) -> None:
    listeners.steer(slots)
    found = spread(listeners, 3)
    assert {slot for slot, count in enumerate(found) if count} == set(slots)


def test_new_slot_gets_nothing_before_it_is_steered_to(listeners: Listeners) -> None:
    listeners.steer((0, 1, 2))
    listeners.claim(4)
    assert spread(listeners, 5)[3:] == [0, 0]
    listeners.steer((4,))
    assert spread(listeners, 5) == [0, 0, 0, 0, COUNT]


def test_slot_in_the_middle_is_released_with_the_higher_ones(listeners: Listeners) -> None:
    listeners.steer((0,))
    listeners.release(1)
    # Closing it now would move slot 2 into its place.
    listeners.steer((2,))
    assert spread(listeners, 3) == [0, 0, COUNT]
    listeners.steer((0,))
    listeners.release(2)
    assert spread(listeners, 1) == [COUNT]


def test_released_slot_can_be_used_again(listeners: Listeners) -> None:
    listeners.steer((0,))
    listeners.release(2)
    listeners.release(1)
    listeners.claim(1)
    listeners.steer((1,))
    assert spread(listeners, 2) == [0, COUNT]
