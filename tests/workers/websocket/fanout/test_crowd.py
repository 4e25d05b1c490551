"""The crowd against a naive list, in any order of joins, departures and batches."""

from __future__ import annotations

from array import array
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from workers.websocket.fanout.crowd import NO_SEAT, Crowd, is_backlogged
from workers.websocket.io_uring.send_queue import SendQueue

QUEUE = cast(SendQueue, object())


class Member:
    """A subscription, its client, its transport and its socket."""

    def __init__(self, number: int, *, secure: bool = False) -> None:
        self.seat = NO_SEAT
        self.number = number
        self.secure = secure
        self.held = 0
        self.closing = False
        # How often it was asked for anything.
        self.asked = 0

    @property
    def client(self) -> Member:
        return self

    @property
    def sink(self) -> Member:
        self.asked += 1
        return self

    def write(self, data: bytes) -> None:
        raise AssertionError("a crowd writes nothing")

    write_nocheck = write

    def get_write_buffer_size(self) -> int:
        self.asked += 1
        return self.held

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return not self.secure

    def get_extra_info(self, name: str) -> Member:
        assert name == "socket"
        return self

    def fileno(self) -> int:
        return self.number


class OtherMember(Member):
    """With a write method of its own."""

    def write_nocheck(self, data: bytes) -> None:
        assert data == b"data"
        self.held += 1


class CrowdMachine(RuleBasedStateMachine):
    """settled: those with a seat; joined: those without one. marked: the backlogged ones."""

    present = Bundle("present")

    def __init__(self) -> None:
        super().__init__()
        self.crowd = Crowd(QUEUE)
        self.settled: dict[Member, int] = {}
        self.joined: list[Member] = []
        self.marked: set[Member] = set()
        self.seats = 0
        self.numbers = 100

    @rule(target=present, secure=st.booleans(), held=st.integers(0, 1))
    def join(self, secure: bool, held: int) -> Member:
        self.numbers += 1
        member = Member(self.numbers, secure=secure)
        member.held = held
        self.crowd.join(member)
        self.joined.append(member)
        return member

    @rule(member=consumes(present))
    def leave(self, member: Member) -> None:
        self.crowd.leave(member)
        # Twice is harmless: its connection may end while it closes.
        self.crowd.leave(member)
        self.settled.pop(member, None)
        self.marked.discard(member)
        if member in self.joined:
            self.joined.remove(member)

    @rule()
    def settle(self) -> None:
        stayed = dict(self.settled)
        self.crowd.settle()
        everyone = [*stayed, *self.joined]
        assert sorted(each.seat for each in everyone) == list(range(len(everyone)))
        # Only those move whose seats are gone.
        moved = [member for member, seat in stayed.items() if member.seat != seat]
        assert all(stayed[member] >= len(everyone) for member in moved)
        # The crowd asks the transport of each client that takes a seat.
        self.marked -= {*moved}
        self.marked |= {
            each for each in (*self.joined, *moved) if each.secure or is_backlogged(each)
        }
        self.settled = {each: each.seat for each in everyone}
        self.joined = []
        self.seats = len(everyone)

    @rule(member=present)
    def fill(self, member: Member) -> None:
        """Its transport holds bytes, and reports it."""
        member.held = 1
        self.crowd.backlog(member)
        if member in self.settled:
            self.marked.add(member)

    @rule(member=present)
    def drain(self, member: Member) -> None:
        """Its transport has written everything, and reports nothing."""
        member.held = 0

    @rule(member=present)
    def close(self, member: Member) -> None:
        """Its transport begins to close, and drops what it holds."""
        member.closing = True

    @rule(member=present)
    def serve(self, member: Member) -> None:
        """A batch comes to its seat."""
        if member not in self.settled:
            return
        may = self.crowd.may_pass(member.seat)
        if member in self.marked:
            assert may is (not member.secure and not is_backlogged(member))
        else:
            assert may
        if may:
            self.marked.discard(member)

    @invariant()
    def nothing_moves_between_batches(self) -> None:
        crowd = self.crowd
        assert len(crowd) == len(crowd.sinks) == len(crowd.descriptors) == self.seats
        taken = set(self.settled.values())
        assert crowd.vacant == set(range(self.seats)) - taken
        for member, seat in self.settled.items():
            assert member.seat == seat
            assert crowd.members[seat] is member
            assert crowd.sinks[seat] is member
            assert crowd.descriptors[seat] == (-1 if member.secure else member.number)
        for seat in crowd.vacant:
            # Whatever had its descriptor, it is not to be written to.
            assert (crowd.members[seat], crowd.descriptors[seat]) == (None, -1)
        assert all(member.seat == NO_SEAT for member in self.joined)
        # Nobody who may be backlogged is forgotten.
        assert {seat for member, seat in self.settled.items() if member in self.marked} == (
            crowd.backlogged
        )
        assert crowd.queued == sum(not member.secure for member in self.settled)


CrowdMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestCrowd = CrowdMachine.TestCase


def filled(count: int, queue: SendQueue | None = QUEUE) -> tuple[Crowd, list[Member]]:
    crowd, members = Crowd(queue), [Member(100 + nth) for nth in range(count)]
    for member in members:
        crowd.join(member)
    crowd.settle()
    return crowd, members


def test_one_that_moves_keeps_its_descriptor_and_its_backlog() -> None:
    crowd, members = filled(10)
    members[9].held = 1
    crowd.backlog(members[9])
    crowd.leave(members[2])
    crowd.settle()
    assert members[9].seat == 2
    assert crowd.descriptors == array("i", [100, 101, 109, *range(103, 109)])
    assert not crowd.may_pass(2)
    members[9].held = 0
    assert crowd.may_pass(2)


@pytest.mark.parametrize("size", [10, 1_000])
def test_joining_and_leaving_ask_nobody_else(size: int) -> None:
    crowd, members = filled(size)
    asked = sum(member.asked for member in members)
    newcomer = Member(99)
    crowd.join(newcomer)
    crowd.settle()
    assert sum(member.asked for member in members) == asked
    crowd.leave(members[3])
    crowd.settle()
    # The newcomer takes the vacant seat, and nobody else has to do anything.
    assert newcomer.seat == 3
    assert sum(member.asked for member in members) == asked


def test_without_a_queue_nobody_is_asked_for_a_descriptor() -> None:
    crowd, members = filled(3, None)
    crowd.backlog(members[1])
    assert crowd.descriptors == array("i", [-1, -1, -1])
    assert (crowd.queued, crowd.backlogged) == (0, set())


def test_transports_of_two_types_are_written_to_by_their_own_methods() -> None:
    crowd, _ = filled(2)
    other: Any = OtherMember(7)
    crowd.join(other)
    crowd.settle()
    assert crowd.send is not None
    crowd.send(other, b"data")
    assert other.held == 1
