"""The keys of session tickets are renewed in time, and not before."""

from __future__ import annotations

from energyws.process.ticket_keys import KEYS_BYTES, LIFE_SECONDS, TicketKeys


def test_keys_are_renewed_after_their_life() -> None:
    keys = TicketKeys(1000.0)
    first = keys.current
    assert len(first) == KEYS_BYTES
    assert not keys.renew(1000.0 + LIFE_SECONDS - 1)
    assert keys.current == first
    assert keys.renew(1000.0 + LIFE_SECONDS)
    second = keys.current
    assert len(second) == KEYS_BYTES
    assert second != first
    assert not keys.renew(1000.0 + LIFE_SECONDS + 1)
    assert keys.current == second


def test_two_services_have_different_keys() -> None:
    assert TicketKeys(0.0).current != TicketKeys(0.0).current
