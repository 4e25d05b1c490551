from __future__ import annotations

from workers.consumer.schemas.kept import Kept, Key


def key(number: int) -> Key:
    return "avro", number


def test_what_is_used_outlives_what_is_not() -> None:
    kept: Kept[str] = Kept(3, 100)
    for number in range(3):
        kept.keep(key(number), f"v{number}")
    for number in range(3, 50):
        assert kept.get(key(0)) == "v0"
        kept.keep(key(number), f"v{number}")
    assert len(kept) == 3
    assert (kept.get(key(1)), kept.get(key(49))) == (None, "v49")


def test_all_in_use_gives_way_to_the_new() -> None:
    kept: Kept[int] = Kept(3, 100)
    for number in range(3):
        kept.keep(key(number), number)
        assert kept.get(key(number)) == number
    kept.keep(key(3), 3)
    assert [kept.get(key(number)) for number in range(4)] == [None, 1, 2, 3]


def test_sizes_are_bounded_together() -> None:
    kept: Kept[int] = Kept(10, 100)
    for number in range(4):
        kept.keep(key(number), number, 40)
    assert [kept.get(key(number)) for number in range(4)] == [None, None, 2, 3]
    kept.keep(key(4), 4, 1000)
    assert (len(kept), kept.get(key(4))) == (1, 4)
    kept.keep(key(4), 5, 40)
    kept.keep(key(6), 6, 60)
    assert (kept.get(key(4)), kept.get(key(6))) == (5, 6)
