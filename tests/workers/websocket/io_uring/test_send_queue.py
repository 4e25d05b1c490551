"""Each socket gets the bytes once, whatever the kernel does; those that did not are named."""

from __future__ import annotations

import errno
import random
from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.websocket.io_uring.simulated import SimulatedKernel, Sockets
from workers.websocket.io_uring.send_queue import ENTRIES, SendQueue

# Before both queues' numbers wrap, in the middle of them, and at their beginning.
PLACES = st.sampled_from([0, 1, ENTRIES - 1, ENTRIES, 2**31 - 5, 2**32 - 70, 2**32 - 1])
PASSING = [errno.EINTR, errno.EAGAIN, errno.EBUSY, errno.ENOMEM]
FOR_GOOD = [errno.EPERM, errno.EINVAL, errno.EBADF, errno.ENXIO]
DATA = bytes(range(100))
# What a socket does: takes everything, or so much of it, or fails.
ROOM = st.one_of(
    st.just(len(DATA)),
    st.integers(0, len(DATA) - 1),
    st.sampled_from([-errno.EPIPE, -errno.ECONNRESET, -errno.EBADF, -errno.ENOMEM]),
)


def numbered(count: int) -> array[int]:
    return array("i", range(100, 100 + count))


def check(
    sockets: Sockets, descriptors: Sequence[int], short: Sequence[tuple[int, int]], data: bytes
) -> None:
    """Every socket has what the queue says that it took; those that are not named, everything."""
    taken = dict(short)
    assert len(taken) == len(short)
    assert all(0 <= count < len(data) for count in taken.values())
    for at, descriptor in enumerate(descriptors):
        got = sockets.got.pop(descriptor, [])
        assert b"".join(got) == data[: taken.get(at, len(data))]
        assert len(got) <= 1
    assert not sockets.got


@given(PLACES, st.lists(st.integers(0, ENTRIES), min_size=1, max_size=8))
def test_each_socket_gets_everything_once(place: int, sizes: list[int]) -> None:
    sockets = Sockets()
    kernel = SimulatedKernel(sockets.send, place)
    queue = kernel.queue()
    for nth, size in enumerate(sizes):
        # Bytes of another length, at another address.
        data = bytes([nth]) * (1 + nth * 7)
        assert list(queue.send(numbered(size), data)) == []
        check(sockets, numbered(size), [], data)
    assert kernel.waits == []


@pytest.mark.parametrize("size", range(1, ENTRIES + 1))
def test_every_size_goes_around_the_end(size: int) -> None:
    sockets = Sockets()
    queue = SimulatedKernel(sockets.send).queue()
    for _ in range(2 * ENTRIES // size + 2):
        assert list(queue.send(numbered(size), DATA)) == []
        check(sockets, numbered(size), [], DATA)


@pytest.mark.parametrize("place", [0, 32, 96, 2**32 - 32])
def test_one_short_send_is_named_wherever_it_is(place: int) -> None:
    sockets = Sockets()
    for at in range(ENTRIES):
        queue = SimulatedKernel(sockets.send, place).queue()
        sockets.room = {100 + at: 5}
        short = queue.send(numbered(ENTRIES), DATA)
        assert list(short) == [(at, 5)]
        check(sockets, numbered(ENTRIES), short, DATA)


@given(PLACES, st.data())
def test_whatever_the_kernel_does_the_queue_says_who_got_what(
    place: int, data: st.DataObject
) -> None:
    sockets = Sockets()
    kernel = SimulatedKernel(sockets.send, place)
    queue = kernel.queue()
    kernel.shuffle = random.Random(data.draw(st.integers(0, 9), "seed")).shuffle
    for _ in range(data.draw(st.integers(1, 6), "sends")):
        size = data.draw(st.integers(0, ENTRIES), "size")
        descriptors = numbered(size)
        rooms = data.draw(st.dictionaries(st.sampled_from([*descriptors, 7]), ROOM, max_size=5))
        sockets.room = rooms
        kernel.late = data.draw(st.booleans(), "late")
        kernel.faults.clear()
        faults = data.draw(
            st.lists(st.integers(0, ENTRIES) | st.sampled_from([-e for e in PASSING]), max_size=4),
            "faults",
        )
        kernel.faults.extend(faults)
        short = queue.send(descriptors, DATA)
        check(sockets, descriptors, short, DATA)
        assert queue.failure is None
        if not faults:
            assert dict(short) == {
                descriptor - 100: max(room, 0)
                for descriptor, room in rooms.items()
                if descriptor >= 100 and room < len(DATA)
            }


@pytest.mark.parametrize("late", [False, True])
def test_kernel_that_takes_fewer_is_asked_again(late: bool) -> None:
    sockets = Sockets()
    kernel = SimulatedKernel(sockets.send)
    kernel.late = late
    kernel.faults.extend([1, 10, 30])
    assert list(kernel.queue().send(numbered(ENTRIES), DATA)) == []
    check(sockets, numbered(ENTRIES), [], DATA)


def interrupted(code: int, before: int) -> tuple[Sockets, SendQueue]:
    """After a send to 20 sockets of which the kernel took `before`, and then failed."""
    sockets = Sockets()
    kernel = SimulatedKernel(sockets.send)
    queue = kernel.queue()
    kernel.faults.extend([before] * bool(before) + [-code])
    short = queue.send(numbered(20), DATA)
    assert list(short) == [(at, 0) for at in range(before, 20)]
    check(sockets, numbered(20), short, DATA)
    return sockets, queue


@pytest.mark.parametrize("code", PASSING)
@pytest.mark.parametrize("before", [0, 5])
def test_passing_error_sends_nothing_twice_and_the_next_send_works(code: int, before: int) -> None:
    sockets, queue = interrupted(code, before)
    assert queue.failure is None
    assert list(queue.send(numbered(40), b"next")) == []
    check(sockets, numbered(40), [], b"next")


@pytest.mark.parametrize("code", FOR_GOOD)
@pytest.mark.parametrize("before", [0, 5])
def test_any_other_error_is_a_failure(code: int, before: int) -> None:
    _, queue = interrupted(code, before)
    assert queue.failure is not None
    assert queue.failure.errno == code


def test_completions_that_come_late_are_waited_for() -> None:
    sockets = Sockets()
    sockets.room = {103: 7, 105: -errno.EPIPE}
    kernel = SimulatedKernel(sockets.send)
    kernel.late = True
    short = kernel.queue().send(numbered(20), DATA)
    assert list(short) == [(3, 7), (5, 0)]
    check(sockets, numbered(20), short, DATA)
    assert kernel.waits == [20]


def test_same_bytes_are_loaded_once_and_kept_while_the_queue_refers_to_them() -> None:
    sockets = Sockets()
    queue = SimulatedKernel(sockets.send).queue()
    # Nobody else refers to them between these calls.
    queue.send(numbered(3), bytes(bytearray(b"only here")))
    again = queue._data
    assert again == b"only here"
    queue.send(numbered(3), again)
    assert sockets.got == {descriptor: [again, again] for descriptor in numbered(3)}


def test_equal_results_of_other_entries_are_not_taken_for_complete() -> None:
    """A short send in the first slice does not hide behind the completions of a whole one."""
    sockets = Sockets()
    queue = SimulatedKernel(sockets.send).queue()
    for _ in range(4):
        assert list(queue.send(numbered(ENTRIES), DATA)) == []
        sockets.room = {100: len(DATA) - 1}
        assert list(queue.send(numbered(ENTRIES), DATA)) == [(0, len(DATA) - 1)]
        sockets.room = {}
