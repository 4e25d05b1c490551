"""Prefixes of keys, found by one search."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from energyws.stream import prefixes as module
from energyws.stream.prefixes import Prefixes, begins_with

# Of two letters and short, so that most begin with others.
texts = st.text(st.sampled_from("ab\xff"), max_size=5).map(str.encode)


@given(st.lists(st.tuples(st.booleans(), texts), max_size=30), st.lists(texts, max_size=10))
def test_a_key_finds_all_its_prefixes(changes: list[tuple[bool, bytes]], keys: list[bytes]) -> None:
    index: Prefixes[int] = Prefixes()
    there: dict[bytes, int] = {}
    for number, (added, prefix) in enumerate(changes):
        if added:
            index[prefix] = there[prefix] = number
        elif prefix in there:
            del index[prefix], there[prefix]
        assert (len(index), index.get(prefix)) == (len(there), there.get(prefix))
    for key in keys:
        expected = {number for prefix, number in there.items() if key.startswith(prefix)}
        found = index.find(key)
        assert (set(found), len(found)) == (expected, len(expected))


@given(st.lists(texts, max_size=6), texts, st.sampled_from([0, 20]))
def test_a_key_begins_with_one_of_few_or_of_many(
    prefixes: list[bytes], key: bytes, few: int
) -> None:
    with patch.object(module, "FEW", few):
        assert begins_with(tuple(prefixes))(key) is key.startswith(tuple(prefixes))


def test_a_record_costs_the_same_for_prefixes_of_any_number_of_lengths() -> None:
    """None of them is looked at but the nearest one, and those that begin the key."""

    class Key(bytes):
        asked = 0

        def startswith(self, *prefix: object) -> bool:  # type: ignore[override]
            Key.asked += 1
            return super().startswith(*prefix)  # type: ignore[arg-type]

    index: Prefixes[int] = Prefixes()
    index[b"7"] = 0
    for length in range(256):
        index[b"735" + b"9" * length + b"!"] = length
    assert index.find(Key(b"735" + b"9" * 18)) == [0]
    assert Key.asked == 2
