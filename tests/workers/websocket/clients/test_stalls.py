"""Which clients have acknowledged nothing for too long."""

from __future__ import annotations

from workers.websocket.clients.stalls import Stalls

MOST = 30.0


def test_client_that_acknowledges_nothing_stalls() -> None:
    stalls: Stalls[str] = Stalls()
    assert not stalls.look("client", 5, 100.0, MOST)
    assert not stalls.look("client", 5, 129.9, MOST)
    assert stalls.look("client", 5, 130.0, MOST)


def test_any_acknowledged_byte_gives_it_the_whole_time() -> None:
    stalls: Stalls[str] = Stalls()
    assert not stalls.look("client", 5, 100.0, MOST)
    assert not stalls.look("client", 6, 129.0, MOST)
    assert not stalls.look("client", 6, 158.0, MOST)
    assert stalls.look("client", 6, 159.0, MOST)


def test_client_that_has_acknowledged_everything_starts_anew() -> None:
    stalls: Stalls[str] = Stalls()
    assert not stalls.look("client", 5, 100.0, MOST)
    assert not stalls.look("client", None, 110.0, MOST)
    assert not stalls.look("client", None, 500.0, MOST)
    assert not stalls.look("client", 5, 501.0, MOST)


def test_clients_do_not_count_for_each_other() -> None:
    stalls: Stalls[str] = Stalls()
    for now in (100.0, 120.0, 129.0):
        assert not stalls.look("stalled", 5, now, MOST)
        assert not stalls.look("slow", int(now), now, MOST)
    assert stalls.look("stalled", 5, 130.0, MOST)
    assert not stalls.look("slow", 130, 130.0, MOST)


def test_nothing_is_kept_for_those_that_keep_up_or_have_gone() -> None:
    stalls: Stalls[str] = Stalls()
    stalls.look("one", None, 100.0, MOST)
    stalls.look("two", 5, 100.0, MOST)
    stalls.look("three", 5, 100.0, MOST)
    assert set(stalls._since) == {"two", "three"}
    stalls.look("two", None, 105.0, MOST)
    stalls.forget("three")
    stalls.forget("never looked at")
    assert not stalls._since
