from __future__ import annotations

import sys
import threading

from workers.consumer.schemas.kept import Key
from workers.consumer.schemas.wanted import (
    FORGET_SECONDS,
    MAX_WANTED,
    RETRY_FIRST_SECONDS,
    RETRY_MAX_SECONDS,
    Wanted,
)


def key(number: int) -> Key:
    return "avro", number


def test_asked_for_once_in_order_and_urgent_ones_first() -> None:
    wanted = Wanted()
    assert wanted.pause(0.0) is None
    assert [wanted.ask(key(n), float(n), urgent=False) for n in (0, 1, 1, 2)] == [1, 1, 0, 1]
    assert not wanted.ask(key(2), 3.0, urgent=True)
    order = []
    while (found := wanted.next(5.0)) is not None:
        order.append(found)
        wanted.done(found)
    assert order == [key(2), key(0), key(1)]


def test_one_that_fails_comes_again_and_delays_no_other() -> None:
    wanted = Wanted()
    wanted.ask(key(1), 0.0, urgent=True)
    wanted.ask(key(2), 0.0, urgent=False)
    wanted.failed(key(1), 0.0, everything=False)
    assert wanted.next(0.0) == key(2)
    wanted.done(key(2))
    assert wanted.next(0.0) is None
    assert 0.8 * RETRY_FIRST_SECONDS <= (wanted.pause(0.0) or 0) <= RETRY_FIRST_SECONDS
    for _ in range(20):
        wanted.failed(key(1), 0.0, everything=False)
    assert 0.8 * RETRY_MAX_SECONDS <= (wanted.pause(0.0) or 0) <= RETRY_MAX_SECONDS


def test_nothing_is_asked_while_the_registry_answers_nobody() -> None:
    wanted = Wanted()
    for number in (1, 2):
        wanted.ask(key(number), 0.0, urgent=False)
    wanted.failed(key(1), 0.0, everything=True)
    assert wanted.next(0.0) is None
    assert (wanted.pause(0.0) or 0) > 0
    assert wanted.next(1.0) is not None
    # That there is no such schema is an answer.
    assert wanted.denied(key(1), 2.0) == 1
    wanted.failed(key(2), 1.0, everything=True)
    assert (wanted.pause(1.0) or 0) <= RETRY_FIRST_SECONDS


def test_number_is_bounded_apart_from_urgent_ones() -> None:
    wanted = Wanted()
    for number in range(MAX_WANTED + 5):
        wanted.ask(key(number), 0.0, urgent=False)
    assert len(wanted) == MAX_WANTED
    assert wanted.ask(key(MAX_WANTED + 1), 0.0, urgent=True)
    assert wanted.next(0.0) == key(MAX_WANTED + 1)


def test_what_nobody_asks_for_any_more_is_dropped_when_it_fails() -> None:
    wanted = Wanted()
    for number in (1, 2):
        wanted.ask(key(number), 0.0, urgent=True)
    wanted.ask(key(2), FORGET_SECONDS, urgent=False)
    for number in (1, 2):
        wanted.failed(key(number), FORGET_SECONDS + 1, everything=False)
    assert len(wanted) == 1
    assert wanted.next(FORGET_SECONDS + 10) == key(2)


def test_threads_ask_while_the_next_one_is_chosen() -> None:
    wanted = Wanted()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    asking = threading.Thread(
        target=lambda: [wanted.ask(key(n), 0.0, urgent=False) for n in range(MAX_WANTED)]
    )
    try:
        asking.start()
        # A dictionary that grows while it is looked through is an error.
        while asking.is_alive():
            wanted.pause(0.0)
            wanted.next(0.0)
    finally:
        sys.setswitchinterval(before)
        asking.join()
    assert len(wanted) == MAX_WANTED
