"""Where the records of a run are in the broker's logs, by number and by key. No I/O."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from energyws.protocol.position import Position

# The log of a record, counted from 0, and its offset there.
Place = tuple[int, int]


class Log:
    """places, keys: those of each number, by partition; no place: it was never written.

    epochs: the log of each, as far as clients have learned it; more are added.
    """

    def __init__(
        self,
        places: Sequence[Sequence[Place | None]],
        keys: Sequence[Sequence[str]],
        epochs: dict[str, int],
    ) -> None:
        # Of each partition: places in ascending order, and their numbers.
        self._order: list[list[Place]] = []
        self._numbers: list[list[int]] = []
        self._by_key: list[dict[str, list[int]]] = []
        for partition, one in enumerate(places):
            written = [(place, number) for number, place in enumerate(one) if place is not None]
            self._order.append([place for place, _ in written])
            self._numbers.append([number for _, number in written])
            by_key: dict[str, list[int]] = defaultdict(list)
            for _, number in written:
                by_key[keys[partition][number]].append(number)
            self._by_key.append(by_key)
        self._epochs = epochs
        self._newest = max((one[-1][0] for one in self._order if one), default=0)

    def seen(self, partition: int, number: int, epoch: str) -> None:
        """A client has received this record under this epoch: learn which log has that name."""
        numbers = self._numbers[partition]
        at = bisect_left(numbers, number)
        if at < len(numbers) and numbers[at] == number:
            self._epochs.setdefault(epoch, self._order[partition][at][0])

    def past(self, position: Position) -> list[int]:
        """By partition: the first number that is not before this position."""
        log = self._epochs.get(position.epoch, self._newest)
        found = []
        for partition, order in enumerate(self._order):
            numbers = self._numbers[partition]
            at = bisect_left(order, (log, position.next_offset(partition)))
            found.append(numbers[at] if at < len(numbers) else (numbers or [-1])[-1] + 1)
        return found

    def wanted(self, keys: Collection[str], partition: int, first: int, past: int) -> list[int]:
        """The numbers from `first` to `past` - 1 of written records with one of these keys."""
        by_key = self._by_key[partition]
        return sorted(
            number for key in keys for number in self._within(by_key.get(key, ()), first, past)
        )

    def newest(self, key: str, past: Sequence[int]) -> set[tuple[int, int]]:
        """Partition and number of the newest record of a key in each partition, below `past`."""
        found = set()
        for partition, by_key in enumerate(self._by_key):
            numbers = by_key.get(key, [])
            if at := bisect_left(numbers, past[partition]):
                found.add((partition, numbers[at - 1]))
        return found

    @staticmethod
    def _within(numbers: Sequence[int], first: int, past: int) -> Iterator[int]:
        for at in range(bisect_left(numbers, first), len(numbers)):
            if numbers[at] >= past:
                return
            yield numbers[at]
