"""Shares: what is counted when, and which limit is met."""

from __future__ import annotations

from typing import Any

import pytest

from energyws.process.board import Board, Field
from energyws.process.counters import LIMITED
from energyws.settings import Limits
from workers.websocket import shares as module
from workers.websocket.shares import Shares


class Workers:
    """The shares of two workers."""

    def __init__(self, **limits: Any) -> None:
        self.board = Board.create()
        self.rows = [self.board.open_row(index) for index in range(2)]
        self.one, self.other = (
            Shares(self.board.usage(index), self.rows[index], Limits(**limits))
            for index in range(2)
        )

    @property
    def connections(self) -> int:
        return self.board.total(Field.CONNECTIONS)

    def met(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for row in self.rows:
            for (name,), count in LIMITED.read(row.columns()).items():
                if count:
                    found[name] = found.get(name, 0) + count
        return found


def test_connections_of_an_address_are_counted_over_all_workers() -> None:
    it = Workers(connections_per_address=2)
    marks = it.one.marks("192.0.2.1", "meter", "a.b.c")
    it.one.begin(object(), marks)
    assert it.other.may_connect("192.0.2.1") is None
    it.other.begin(object(), marks)
    assert it.one.may_connect("192.0.2.1") == "connections_per_address"
    assert it.one.may_connect("192.0.2.2") is None
    it.other.end(marks)
    assert it.one.may_connect("192.0.2.1") is None
    assert it.met() == {"connections_per_address": 1}


def test_neighbours_in_a_network_of_ipv6_share() -> None:
    it = Workers(connections_per_address=1)
    it.one.begin(object(), it.one.marks("2001:db8::1", "meter", "a.b.c"))
    assert it.one.may_connect("2001:db8::ffff") is not None
    assert it.one.may_connect("2001:db8:0:1::1") is None


@pytest.mark.parametrize(
    ("limit", "subject", "token", "met"),
    [
        ("connections_per_subject", "meter", "d.e.f", True),
        ("connections_per_subject", "other", "a.b.c", False),
        ("connections_per_token", "meter", "a.b.c", True),
        # Another spelling of the same signature.
        ("connections_per_token", "meter", "a.b.d", True),
        ("connections_per_token", "meter", "a.c.c", False),
    ],
)
def test_subject_and_token_have_their_own_limits(
    limit: str, subject: str, token: str, met: bool
) -> None:
    it = Workers(**{limit: 1})
    it.one.begin(object(), it.one.marks("192.0.2.1", "meter", "a.b.c"))
    found = it.other.may_have(it.other.marks("192.0.2.2", subject, token))
    assert found == (limit if met else None)


def test_admitted_client_counts_until_its_end() -> None:
    it = Workers()
    client, marks = object(), it.one.marks("192.0.2.1", "meter", "a.b.c")
    it.one.hold(client, marks)
    assert it.connections == 1
    it.one.tick()
    it.one.begin(client, marks)
    assert it.connections == 1
    for _ in range(3):
        it.one.tick()
    assert it.connections == 1
    it.one.end(marks)
    assert it.connections == 0


def test_admitted_client_that_never_begins_is_given_back() -> None:
    it = Workers(connections_per_token=1)
    marks = it.one.marks("192.0.2.1", "meter", "a.b.c")
    it.one.hold(object(), marks)
    it.one.tick()
    assert (it.connections, it.other.may_have(marks)) == (1, "connections_per_token")
    it.one.tick()
    assert (it.connections, it.other.may_have(marks)) == (0, None)


def test_rates_are_of_one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.5
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    it = Workers(new_connections_per_address_per_second=2, messages_per_subject_per_second=2)
    both = (it.one, it.other)
    assert [each.may_come("192.0.2.1") is None for each in (*both, it.one)] == [True, True, False]
    assert [each.may_send("meter") is None for each in (*both, it.one)] == [True, True, False]
    assert it.one.may_come("192.0.2.2") is None
    now = 101.0
    assert it.one.may_come("192.0.2.1") is None
    assert it.met() == {
        "new_connections_per_address_per_second": 1,
        "messages_per_subject_per_second": 1,
    }


def test_pending_connections_are_counted_by_address_and_in_all() -> None:
    it = Workers(pending_per_address=2)
    address = it.one.waits("192.0.2.1")
    it.one.pending(address, 1)
    it.other.pending(address, 1)
    assert it.board.total(Field.PENDING) == 2
    assert it.one.may_wait("192.0.2.1") == "pending_per_address"
    it.other.pending(address, -1)
    assert it.one.may_wait("192.0.2.1") is None


def test_nothing_is_limited_by_default() -> None:
    it = Workers()
    marks = it.one.marks("192.0.2.1", "meter", "a.b.c")
    for _ in range(1_000):
        it.one.begin(object(), marks)
        it.one.pending(it.one.waits("192.0.2.1"), 1)
        assert it.one.may_connect("192.0.2.1") is None
        assert it.one.may_have(marks) is None
        assert it.one.may_come("192.0.2.1") is None
        assert it.one.may_wait("192.0.2.1") is None
        assert it.one.may_send("meter") is None


def test_changed_limit_counts_what_is_there() -> None:
    it = Workers(connections_per_subject=2)
    marks = it.one.marks("192.0.2.1", "meter", "a.b.c")
    it.one.begin(object(), marks)
    assert it.one.may_have(marks) is None
    it.one.limits = Limits(connections_per_subject=1)
    assert it.one.may_have(marks) == "connections_per_subject"


@pytest.mark.parametrize("kind", ["address", "subject", "token"])
def test_new_limit_counts_who_comes_from_then_on(kind: str) -> None:
    it = Workers()
    client = ("192.0.2.1", "meter", "a.b.c")
    before = it.one.marks(*client)
    it.one.begin(object(), before)
    it.one.limits = Limits(**{f"connections_per_{kind}": 1})  # type: ignore[arg-type]
    marks = it.one.marks(*client)

    def met() -> bool:
        return bool(it.one.may_connect(client[0]) or it.one.may_have(marks))

    assert not met()
    it.one.begin(object(), marks)
    assert met()
    # What began uncounted ends so, and the other way round.
    it.one.end(before)
    assert met()
    it.one.limits = Limits()
    it.one.end(marks)
    it.one.limits = Limits(**{f"connections_per_{kind}": 1})  # type: ignore[arg-type]
    assert not met()
