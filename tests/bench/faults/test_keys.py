"""Which keys the clients of a run have."""

from __future__ import annotations

from bench.faults.keys import BEACON, METERS, allowed, meter, seats


def tokens(count: int) -> list[tuple[str, ...]]:
    minted = []

    def mint(subject: str, keys: list[str]) -> str:
        minted.append((subject, *keys))
        return subject

    made = seats(count, mint)
    assert [len(own) for _, own in made] == [len(seat.claims) for seat, _ in made]
    return minted


def test_default_run_has_a_thousand_different_tokens() -> None:
    assert len(set(tokens(50))) > 800
    assert len(set(tokens(1000))) > 1000


def test_every_client_always_gets_the_records_for_everybody() -> None:
    for seat, own in seats(50, lambda *_: ""):
        for turn in range(len(own)):
            assert BEACON in allowed(seat.keys(turn))


def test_clients_ask_only_for_what_their_tokens_have() -> None:
    for seat, _ in seats(50, lambda *_: ""):
        for claims in seat.claims:
            assert allowed(seat.asks or []) <= allowed(claims)


def test_a_star_at_the_end_is_for_all_keys_that_begin_so() -> None:
    assert allowed(["*"]) == {*METERS, BEACON}
    assert {"m1", "m10", 'm1"\\å'} < allowed(["m1*"])
    assert allowed(["m1"]) == {"m1"}


def test_every_key_has_records() -> None:
    each = [{meter(partition, number) for number in range(2000)} for partition in range(3)]
    assert set.union(*each) == set(METERS)
    assert sum(map(len, each)) == len(METERS)
