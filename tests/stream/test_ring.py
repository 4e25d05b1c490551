"""The ring against a list, and cursors against clients that change replicas and fall behind."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from energyws.protocol import frame
from energyws.protocol.messages import OnLag
from energyws.protocol.position import Position, from_offsets, parse
from energyws.settings import History
from energyws.stream import ring, ring_partition
from energyws.stream.ring import (
    AHEAD_SECONDS,
    LAGGED,
    Cursor,
    Entry,
    Located,
    Ring,
    TooSlow,
    gap_entries,
)

EPOCH = "7f3a90c2"
STREAM = "energy"
ENOUGH = 1 << 20
UNBOUNDED = History(max_frames=1_000, max_bytes=ENOUGH, max_age_seconds=1_000.0)


def at(*offsets: int) -> Position:
    return from_offsets(EPOCH, offsets)


def entry(partition: int, offset: int, size: int = 10) -> Entry:
    """An entry of `size` bytes that differs from all others."""
    return Entry(partition, offset, 0, f"{partition}:{offset}".ljust(size).encode())


def ring_of(*records: tuple[int, int], floor: Position | None = None, **limits: int) -> Ring:
    """A ring after these records of (partition, offset) were appended at time 0."""
    ring = Ring(History(**limits), at(0, 0) if floor is None else floor)
    for record in records:
        ring.append(entry(*record), 0.0)
    return ring


def offsets_of(entries: list[Entry]) -> list[tuple[int, int]]:
    return [(each.partition, each.offset) for each in entries]


def lagged(missed: int | None, begin: Position, end: Position, reason: str = LAGGED) -> bytes:
    return frame.lagged(STREAM, missed, str(begin), str(end), reason)


partitions = st.integers(0, 3)
positions = st.lists(st.integers(0, 40), max_size=5).map(lambda offsets: at(*offsets))

behinds = st.lists(st.integers(-1, 8), max_size=5)


class RingMachine(RuleBasedStateMachine):
    """A ring, and the list of everything that was ever appended to it."""

    @initialize(
        floor=st.lists(st.integers(0, 5), min_size=1, max_size=3),
        max_frames=st.integers(1, 8),
        max_bytes=st.integers(10, 100),
        spare=st.sampled_from([1, ring.SPARE]),
    )
    def begin(self, floor: list[int], max_frames: int, max_bytes: int, spare: int) -> None:
        self.patch = pytest.MonkeyPatch()
        for module in (ring, ring_partition):
            self.patch.setattr(module, "SPARE", spare)
        self.limits = History(max_frames=max_frames, max_bytes=max_bytes, max_age_seconds=10.0)
        self.ring = Ring(self.limits, at(*floor))
        self.now = 0.0
        self.initial = floor
        self.all: list[Entry] = []
        self.times: list[float] = []
        self.first = 0
        self.head = at(*floor)

    @rule(
        partition=partitions,
        hole=st.integers(0, 2),
        size=st.integers(5, 40),
        pause=st.sampled_from([0.0, 1.0, 4.0]),
    )
    def append(self, partition: int, hole: int, size: int, pause: float) -> None:
        self.now += pause
        new = entry(partition, self.head.next_offset(partition) + hole, size)
        assert not self.ring.covers(partition, new.offset)
        self.ring.append(new, self.now)
        assert self.ring.covers(partition, new.offset)
        self.all.append(new)
        self.times.append(self.now)
        self.head = self.head.after(partition, new.offset)
        self.forget()

    @rule(partition=partitions, below=st.integers(1, 5))
    def refuse_covered_records(self, partition: int, below: int) -> None:
        offset = self.head.next_offset(partition) - below
        if offset >= 0:
            with pytest.raises(ValueError, match=f"^partition {partition}: offset {offset} after "):
                self.ring.append(entry(partition, offset), self.now)

    @rule(head=positions)
    def advance(self, head: Position) -> None:
        before, self.head = self.head, self.head.merge(head)
        assert self.ring.advance(head) == (self.head.offsets != before.offsets)

    @rule(pause=st.sampled_from([0.0, 3.0, 10.0, 10.5]))
    def trim(self, pause: float) -> None:
        self.now += pause
        self.ring.trim(self.now)
        self.forget()

    def before_the_head(self, behind: list[int]) -> Position:
        """A client's position: in each partition behind the head, or ahead of it."""
        return at(*(max(0, self.head.next_offset(p) - by) for p, by in enumerate(behind)))

    def forget(self) -> None:
        """The longest run of newest entries within the limits stays, and always the newest."""

        def fits(first: int) -> bool:
            kept = self.all[first:]
            return (
                len(kept) <= self.limits.max_frames
                and sum(len(each.frame) for each in kept) <= self.limits.max_bytes
                and self.times[first] >= self.now - self.limits.max_age_seconds
            )

        newest = len(self.all) - 1
        while self.first < newest and not fits(self.first):
            self.first += 1

    @rule(behind=behinds)
    def locate(self, behind: list[int]) -> None:
        position = self.before_the_head(behind)
        lacking = [
            index
            for index, each in enumerate(self.all)
            if not position.covers(each.partition, each.offset)
        ]
        here = [index for index in lacking if index >= self.first]
        before_the_ring = any(
            position.next_offset(partition) < offset
            for partition, offset in enumerate(self.initial)
        )

        located = self.ring.locate(position)

        assert located == Located(
            start=min(here, default=len(self.all)),
            replayed=len(here),
            complete=len(here) == len(lacking) and not before_the_ring,
        )
        entries, end = self.ring.read(located.start, self.ring.end, ENOUGH, position)
        assert entries == [self.all[index] for index in here]
        assert end == len(self.all)

    @rule(data=st.data(), behind=st.none() | behinds, max_bytes=st.integers(1, 100))
    def read(self, data: st.DataObject, behind: list[int] | None, max_bytes: int) -> None:
        skip = None if behind is None else self.before_the_head(behind)
        begin = data.draw(st.integers(self.first, len(self.all)))
        stop = data.draw(st.integers(begin, len(self.all)))

        taken, after = self.ring.read(begin, stop, max_bytes, skip)

        def wanted(entries: list[Entry]) -> list[Entry]:
            return [e for e in entries if skip is None or not skip.covers(e.partition, e.offset)]

        assert begin <= after <= stop
        assert taken == wanted(self.all[begin:after])
        assert len(taken) <= 1 or sum(len(each.frame) for each in taken) <= max_bytes
        if after < stop:
            # It may stop early only because the next entry does not fit.
            assert wanted(self.all[after : after + 1])
            assert sum(len(e.frame) for e in [*taken, self.all[after]]) > max_bytes

    def teardown(self) -> None:
        self.patch.undo()

    @invariant()
    def holds_the_entries_of_the_list(self) -> None:
        assert (self.ring.first, self.ring.end) == (self.first, len(self.all))
        kept, _ = self.ring.read(self.first, self.ring.end, ENOUGH)
        assert kept == self.all[self.first :]

    @invariant()
    def floor_is_after_the_newest_dropped_entry(self) -> None:
        floor = at(*self.initial)
        for gone in self.all[: self.first]:
            floor = floor.after(gone.partition, gone.offset)

        assert all(
            self.ring.floor.next_offset(p) == floor.next_offset(p)
            for p in range(len(floor.offsets))
        )
        assert not self.ring.floor.beyond(floor)

    @invariant()
    def head_is_after_everything_known(self) -> None:
        assert not self.ring.head.beyond(self.head)
        assert not self.head.beyond(self.ring.head)

    @invariant()
    def position_at_an_index_is_between_its_neighbours(self) -> None:
        for index in range(self.first, len(self.all) + 1):
            position = self.ring.position_at(index)
            assert position.epoch == EPOCH
            assert not position.beyond(self.head)
            assert not self.ring.floor.beyond(position)
            assert [position.covers(each.partition, each.offset) for each in self.all] == [
                before < index for before in range(len(self.all))
            ]


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_empty_ring_starts_and_ends_at_its_floor() -> None:
    ring = Ring(UNBOUNDED, at(7, 3))

    assert (ring.first, ring.end) == (0, 0)
    assert ring.floor == ring.head == ring.position_at(0) == at(7, 3)
    assert ring.read(0, 0, ENOUGH) == ([], 0)
    assert ring.locate(at(7, 3)) == Located(0, 0, True)
    assert ring.locate(at(7, 2)) == Located(0, 0, False)


INTERLEAVED = [(0, 0), (1, 0), (0, 1), (0, 3), (1, 1), (1, 2)]

LOCATED = {
    "at the floor": (at(1, 0), Located(1, 5, True)),
    "before the floor": (at(0, 0), Located(1, 5, False)),
    "before the floor in one partition": (at(0, 3), Located(2, 2, False)),
    "in the middle": (at(2, 1), Located(3, 3, True)),
    "in a hole": (at(3, 1), Located(3, 3, True)),
    "far in one partition": (at(4, 0), Located(1, 3, True)),
    "far in the other": (at(1, 3), Located(2, 2, True)),
    "in no order of this ring": (at(4, 2), Located(5, 1, True)),
    "at the head": (at(4, 3), Located(6, 0, True)),
    "ahead": (at(9, 9), Located(6, 0, True)),
    "ahead in one partition": (at(9, 2), Located(5, 1, True)),
    "with fewer partitions": (at(4), Located(1, 3, True)),
    "with more partitions": (at(4, 3, 7), Located(6, 0, True)),
}


@pytest.mark.parametrize(("position", "located"), LOCATED.values(), ids=LOCATED.keys())
def test_position_is_located(position: Position, located: Located) -> None:
    assert ring_of(*INTERLEAVED, max_frames=5).locate(position) == located


BEFORE = {1: at(1, 0), 2: at(1, 1), 3: at(2, 1), 4: at(4, 1), 5: at(4, 2), 6: at(4, 3)}


@pytest.mark.parametrize(("index", "position"), BEFORE.items())
def test_position_at_an_index_is_before_its_entry(index: int, position: Position) -> None:
    assert ring_of(*INTERLEAVED, max_frames=5).position_at(index) == position


def test_index_never_restarts() -> None:
    ring = ring_of(*[(0, offset) for offset in range(10)], max_frames=3)

    assert (ring.first, ring.end) == (7, 10)
    assert ring.position_at(7) == ring.floor == at(7, 0)


def test_newest_entry_stays_even_if_large_and_old() -> None:
    ring = Ring(History(max_frames=1, max_bytes=5, max_age_seconds=1.0), at(0))
    ring.append(entry(0, 0, size=100), 0.0)
    ring.trim(1e9)

    assert offsets_of(ring.read(ring.first, ring.end, 1)[0]) == [(0, 0)]


def test_entry_leaves_when_older_than_the_age_limit() -> None:
    ring = Ring(History(max_age_seconds=10.0), at(0))
    for offset, now in enumerate((0.0, 1.0, 5.0)):
        ring.append(entry(0, offset), now)

    ring.trim(10.0)
    assert ring.first == 0
    ring.trim(10.5)
    assert ring.first == 1
    ring.trim(1e9)
    assert ring.first == 2


def test_added_partition_is_resumed_from_its_start() -> None:
    ring = ring_of((0, 5), (2, 0), (2, 1), floor=at(5))

    assert ring.head == at(6, 0, 2)
    assert ring.floor == at(5, 0, 0)
    assert ring.locate(at(6)) == Located(1, 2, True)


def test_position_in_a_ring_with_keys_is_never_before_that_of_a_frame() -> None:
    frames = frame.DataFrames("energy")

    def record(partition: int, offset: int, position: str) -> Entry:
        return Entry(partition, offset, 0, frames.build(0, b"{}", position, b"m1"))

    keyed = Ring(UNBOUNDED, at(0, 0), keyed=True)
    # A bad record in the other partition was read before it, at offset 6, and has no frame.
    keyed.append(record(0, 0, f"{EPOCH}-1.7"), 0.0)
    assert keyed.position_at(1) == at(1, 7)
    keyed.append(record(1, 9, f"{EPOCH}-1.10"), 0.0)
    assert [keyed.position_at(index) for index in range(3)] == [at(0, 0), at(1, 7), at(1, 10)]
    keyed.advance(at(3, 10))
    assert keyed.position_at(2) == at(3, 10)


def test_hole_in_the_offsets_is_no_loss() -> None:
    ring = ring_of((0, 10), (0, 50), (0, 51), max_frames=2)

    # 10 has left the ring; 11 to 49 never existed.
    assert ring.locate(at(11)).complete
    assert not ring.locate(at(10)).complete


def test_record_without_a_frame_moves_the_head_only() -> None:
    ring = ring_of((0, 1))
    ring.advance(at(9, 4))

    assert (ring.first, ring.end) == (0, 1)
    assert ring.head == ring.position_at(1) == at(9, 4)
    assert ring.floor == at(0, 0)
    ring.advance(at(3, 3))
    assert ring.head == at(9, 4)


def test_record_without_a_frame_is_covered_at_every_later_index() -> None:
    ring = ring_of((0, 0), (1, 0), (1, 1))
    ring.advance(at(9, 2))

    assert [ring.position_at(index) for index in range(4)] == [
        at(0, 0),
        at(9, 0),
        at(9, 1),
        at(9, 2),
    ]


@dataclass
class Replica:
    """A process that reads the log in its own order, and keeps a part of it."""

    ring: Ring
    next: list[int]
    seen: list[tuple[int, int]]

    def step(self, partition: int) -> None:
        """Read the next offset of a partition: a record, or one without a frame."""
        offset = self.next[partition]
        self.next[partition] += 1
        position = at(*self.next)
        if is_record(partition, offset):
            text = f"{partition}:{offset}:{position}"
            self.ring.append(Entry(partition, offset, 0, text.encode()), 0.0)
            self.seen.append((partition, offset))
        else:
            self.ring.advance(position)

    @property
    def gone(self) -> list[tuple[int, int]]:
        return self.seen[: self.ring.first]


def is_record(partition: int, offset: int) -> bool:
    """Whether the log has a record there: some offsets, alone and in runs, have none."""
    return (offset * 7 + partition * 3) % 11 not in (0, 4, 7)


class ReplicaMachine(RuleBasedStateMachine):
    """A client that keeps the merge of all ids, and changes between two replicas.

    It receives each record once and in the order of its partition, or a report that it is missing.
    """

    @initialize(sizes=st.tuples(st.integers(1, 12), st.integers(1, 12)))
    def begin(self, sizes: tuple[int, int]) -> None:
        self.replicas = [
            Replica(Ring(History(max_frames=size), at(0, 0, 0)), [0, 0, 0], []) for size in sizes
        ]
        self.position = at(0, 0, 0)
        self.received: list[tuple[int, int]] = []
        self.reported: set[tuple[int, int]] = set()
        self.connect(0)

    @rule(which=st.integers(0, 1), partition=st.integers(0, 2), count=st.integers(1, 6))
    def step(self, which: int, partition: int, count: int) -> None:
        for _ in range(count):
            self.replicas[which].step(partition)

    @rule(which=st.integers(0, 1))
    def connect(self, which: int) -> None:
        self.replica = self.replicas[which]
        ring, known = self.replica.ring, self.position
        lost = {record for record in self.replica.gone if not known.covers(*record)}

        located = ring.locate(known)

        assert located.complete is (not lost)
        self.report(lost)
        self.position = known.merge(ring.position_at(located.start))
        self.cursor = Cursor(located.start, known, OnLag.SKIP)
        self.cursor.skip_to(known, 0.0)

    @rule(max_bytes=st.sampled_from([1, 40, ENOUGH]))
    def read(self, max_bytes: int) -> None:
        ring = self.replica.ring
        begin, skip = self.cursor.index, self.cursor.skip

        frames, missed = self.cursor.take(STREAM, ring, ring.end, max_bytes, 0.0)

        assert begin <= self.cursor.index <= ring.end
        if missed:
            end = reported_end(frames)
            lost = {
                record
                for record in self.replica.seen[begin : self.cursor.index]
                if not self.position.covers(*record)
            }
            assert len(lost) <= missed
            assert len(lost) == missed or skip is not None
            self.report(lost)
            self.position = self.position.merge(end)
        else:
            for each in frames:
                self.receive(each.decode())

    def receive(self, text: str) -> None:
        partition, offset, position = text.split(":")
        self.received.append((int(partition), int(offset)))
        self.position = self.position.merge(parse(position))

    def report(self, lost: set[tuple[int, int]]) -> None:
        assert not lost & self.reported
        self.reported |= lost

    @invariant()
    def every_record_came_once_and_in_order(self) -> None:
        assert len(set(self.received)) == len(self.received)
        for partition in range(3):
            offsets = [offset for p, offset in self.received if p == partition]
            assert offsets == sorted(offsets)

    @invariant()
    def covered_records_were_received_or_reported(self) -> None:
        covered = {
            (partition, offset)
            for partition, end in enumerate(self.position.offsets)
            for offset in range(end)
            if is_record(partition, offset)
        }

        assert covered == set(self.received) | self.reported
        assert not set(self.received) & self.reported

    @invariant()
    def client_at_the_end_of_the_ring_has_everything(self) -> None:
        if self.cursor.index == self.replica.ring.end:
            assert all(self.position.covers(*record) for record in self.replica.seen)


def reported_end(frames: list[bytes]) -> Position:
    """The position at which delivery continues, from the only frame: a `lagged` message."""
    (message,) = frames
    found = re.search(rb'"to":"([^"]+)"', message)
    assert found is not None
    return parse(found.group(1).decode())


TestReplicas = ReplicaMachine.TestCase
TestReplicas.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@given(st.data(), st.lists(st.integers(0, 2), max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_resume_on_a_replica_with_another_order_gives_the_rest_once(
    data: st.DataObject, order: list[int], read_before: int, ahead: int
) -> None:
    other_order = data.draw(st.permutations(order))
    one = Replica(Ring(UNBOUNDED, at(0, 0, 0)), [0, 0, 0], [])
    other = Replica(Ring(UNBOUNDED, at(0, 0, 0)), [0, 0, 0], [])
    for partition in order:
        one.step(partition)
    # The other replica may be behind when the client arrives.
    for partition in other_order[:ahead]:
        other.step(partition)

    had, _ = one.ring.read(0, min(read_before, one.ring.end), ENOUGH)
    known = one.ring.position_at(len(had))
    located = other.ring.locate(known)
    for partition in other_order[ahead:]:
        other.step(partition)
    rest, _ = other.ring.read(located.start, other.ring.end, ENOUGH, known)

    assert located.complete
    assert sorted(offsets_of(had) + offsets_of(rest)) == sorted(one.seen)
    for partition in range(3):
        offsets = [o for p, o in offsets_of(had) + offsets_of(rest) if p == partition]
        assert offsets == sorted(set(offsets))


def test_cursor_takes_frames_that_fit_then_the_rest() -> None:
    ring = ring_of((0, 0), (1, 0), (0, 1))
    cursor = Cursor(0, at(0, 0), OnLag.SKIP)

    assert cursor.take(STREAM, ring, 3, 20, 0.0) == ([b"0:0       ", b"1:0       "], 0)
    assert cursor.index == 2
    assert cursor.take(STREAM, ring, 3, 20, 0.0) == ([b"0:1       "], 0)
    assert cursor.take(STREAM, ring, 3, 20, 0.0) == ([], 0)
    assert cursor.index == 3


def test_cursor_stops_at_the_given_end() -> None:
    ring = ring_of((0, 0), (0, 1), (0, 2))
    cursor = Cursor(0, at(0, 0), OnLag.SKIP)

    assert len(cursor.take(STREAM, ring, 2, ENOUGH, 0.0)[0]) == 2
    assert cursor.index == 2


@pytest.mark.parametrize("on_lag", [OnLag.SKIP, OnLag.LATEST], ids=lambda each: each.value)
def test_cursor_that_fell_off_reports_the_gap_and_continues_live(on_lag: OnLag) -> None:
    ring = ring_of(*[(0, offset) for offset in range(10)], max_frames=4)
    cursor = Cursor(2, at(2, 0), on_lag)

    frames, missed = cursor.take(STREAM, ring, 10, ENOUGH, 0.0)

    # The gap is from the cursor's position to the live one.
    reported = reported_end(frames)
    assert frames == [lagged(missed, at(2, 0), reported)]
    assert reported == ring.position_at(cursor.index)
    assert missed == cursor.index - 2
    assert on_lag is OnLag.LATEST or cursor.index == 10


def test_cursor_that_fell_off_during_a_replay_jumps_into_the_ring() -> None:
    # Live delivery is at `stop`, which may have left the ring too.
    ring = ring_of(*[(0, offset) for offset in range(10)], max_frames=4)
    cursor = Cursor(2, at(2, 0), OnLag.SKIP)

    assert cursor.take(STREAM, ring, 3, ENOUGH, 0.0) == ([lagged(4, at(2, 0), at(6, 0))], 4)
    assert cursor.index == ring.first == 6


def test_cursor_of_on_lag_disconnect_is_too_slow_when_it_falls_off() -> None:
    ring = ring_of(*[(0, offset) for offset in range(10)], max_frames=4)

    with pytest.raises(TooSlow):
        Cursor(5, at(5, 0), OnLag.DISCONNECT).take(STREAM, ring, 10, ENOUGH, 0.0)


@pytest.mark.parametrize("on_lag", OnLag, ids=lambda each: each.value)
def test_cursor_at_the_oldest_frame_has_not_fallen_off(on_lag: OnLag) -> None:
    ring = ring_of(*[(0, offset) for offset in range(10)], max_frames=4)
    cursor = Cursor(6, at(6, 0), on_lag)

    frames, missed = cursor.take(STREAM, ring, 10, ENOUGH, 0.0)

    assert [each.strip() for each in frames] == [b"0:6", b"0:7", b"0:8", b"0:9"]
    assert missed == 0


def test_lagged_names_the_position_of_the_cursor() -> None:
    ring = ring_of(*[(0, offset) for offset in range(4)], max_frames=4)
    cursor = Cursor(0, at(0, 0), OnLag.SKIP)
    cursor.take(STREAM, ring, 4, 20, 0.0)
    for offset in range(4, 10):
        ring.append(entry(0, offset), 0.0)

    assert cursor.take(STREAM, ring, 10, ENOUGH, 0.0) == ([lagged(8, at(2, 0), at(10, 0))], 8)


def test_jump_to_newest_keeps_the_newest_frame() -> None:
    ring = ring_of((0, 0), (1, 0), (0, 1), (1, 1))
    cursor = Cursor(1, at(1, 0), OnLag.LATEST)

    assert cursor.jump_to_newest(STREAM, ring, 4) == ([lagged(2, at(1, 0), at(2, 1))], 2)
    assert cursor.take(STREAM, ring, 4, ENOUGH, 0.0) == ([b"1:1       "], 0)
    assert cursor.index == 4


def test_jump_to_newest_from_before_the_ring_lands_in_it() -> None:
    ring = ring_of(*[(0, offset) for offset in range(10)], max_frames=1)
    cursor = Cursor(2, at(2, 0), OnLag.LATEST)

    assert cursor.jump_to_newest(STREAM, ring, 10) == ([lagged(7, at(2, 0), at(9, 0))], 7)
    assert cursor.take(STREAM, ring, 10, ENOUGH, 0.0) == ([b"0:9       "], 0)


def test_jump_to_newest_never_lands_before_the_ring() -> None:
    # Live delivery is at `stop`, which may have left the ring too.
    ring = ring_of(*[(0, offset) for offset in range(10)], max_frames=4)
    cursor = Cursor(2, at(2, 0), OnLag.LATEST)

    assert cursor.jump_to_newest(STREAM, ring, 3) == ([lagged(4, at(2, 0), at(6, 0))], 4)
    assert cursor.index == ring.first == 6


@pytest.mark.parametrize("index", [3, 4], ids=["newest waits", "nothing waits"])
def test_jump_to_newest_reports_nothing_without_a_backlog(index: int) -> None:
    ring = ring_of((0, 0), (0, 1), (0, 2), (0, 3))
    cursor = Cursor(index, at(index, 0), OnLag.LATEST)

    assert cursor.jump_to_newest(STREAM, ring, 4) == ([], 0)
    assert cursor.index == index


def ahead_by_two(ring: Ring, now: float = 0.0) -> Cursor:
    """The cursor of a client that already has 0:2 and 0:3, from a replica that is ahead."""
    cursor = Cursor(ring.locate(at(4, 0)).start, at(4, 0), OnLag.SKIP)
    cursor.skip_to(at(4, 0), now)
    return cursor


def test_client_that_is_not_ahead_settles_immediately() -> None:
    ring = ring_of((0, 0), (1, 0), (0, 1))
    cursor = Cursor(0, at(1, 0), OnLag.SKIP)
    cursor.skip_to(at(1, 0), 0.0)

    assert cursor.take(STREAM, ring, 3, ENOUGH, 0.0) == ([b"1:0       ", b"0:1       "], 0)
    assert cursor.skip is None


def test_client_does_not_settle_during_a_long_replay() -> None:
    ring = ring_of((1, 0), (1, 1), (0, 0))
    cursor = Cursor(0, at(1, 0), OnLag.SKIP)
    cursor.skip_to(at(1, 0), 0.0)
    late = 10 * AHEAD_SECONDS

    assert cursor.take(STREAM, ring, 3, 10, late) == ([b"1:0       "], 0)
    assert cursor.skip == at(1, 0)
    assert cursor.take(STREAM, ring, 3, 10, late) == ([b"1:1       "], 0)
    assert cursor.skip is None


def test_client_that_is_ahead_gets_only_records_it_lacks() -> None:
    ring = ring_of((0, 0), (0, 1), (1, 0))
    cursor = ahead_by_two(ring)

    assert cursor.take(STREAM, ring, ring.end, ENOUGH, 0.0) == ([b"1:0       "], 0)
    for record in ((0, 2), (1, 1), (0, 3), (0, 4)):
        assert cursor.skip == at(4, 0)
        ring.append(entry(*record), 0.0)
        frames, _ = cursor.take(STREAM, ring, ring.end, ENOUGH, AHEAD_SECONDS - 0.1)
        assert [each.strip() for each in frames] == [b"%d:%d" % record][
            : record in ((1, 1), (0, 4))
        ]
        if record == (0, 3):
            assert cursor.skip is None
            break
    ring.append(entry(0, 4), 0.0)
    assert cursor.take(STREAM, ring, ring.end, ENOUGH, 0.0) == ([b"0:4       "], 0)


def test_client_that_has_records_without_frames_is_not_ahead() -> None:
    # Partition 0 ends in records without frames, and partition 1 never pauses.
    ring = ring_of((0, 0), (1, 0))
    ring.advance(at(9, 1))
    cursor = Cursor(2, at(9, 1), OnLag.SKIP)
    cursor.skip_to(at(9, 1), 0.0)
    ring.append(entry(1, 1), 0.0)

    assert cursor.take(STREAM, ring, 2, ENOUGH, AHEAD_SECONDS) == ([], 0)
    assert cursor.skip is None


def test_client_that_stays_ahead_gets_one_report_after_a_while() -> None:
    ring = ring_of((0, 0), (0, 1))
    cursor = ahead_by_two(ring, now=100.0)

    assert cursor.take(STREAM, ring, 2, ENOUGH, 100.0) == ([], 0)
    assert cursor.take(STREAM, ring, 2, ENOUGH, 100.0 + AHEAD_SECONDS - 0.001) == ([], 0)
    assert cursor.skip == at(4, 0)
    reported = lagged(None, at(4, 0), at(2, 0), "POSITION_AHEAD")
    assert cursor.take(STREAM, ring, 2, ENOUGH, 100.0 + AHEAD_SECONDS) == ([reported], 0)
    assert cursor.skip is None
    assert cursor.take(STREAM, ring, 2, ENOUGH, 200.0) == ([], 0)


def test_client_that_was_ahead_gets_new_records_after_its_report() -> None:
    ring = ring_of((0, 0), (0, 1))
    cursor = ahead_by_two(ring)
    cursor.take(STREAM, ring, 2, ENOUGH, AHEAD_SECONDS)
    ring.append(entry(0, 2), 0.0)

    assert cursor.take(STREAM, ring, 3, ENOUGH, AHEAD_SECONDS) == ([b"0:2       "], 0)


def test_client_that_is_ahead_and_falls_off_still_gets_nothing_twice() -> None:
    ring = ring_of((0, 0), (0, 1), (1, 0), max_frames=2)
    cursor = ahead_by_two(ring)
    for offset in range(1, 5):
        ring.append(entry(1, offset), 0.0)

    frames, _ = cursor.take(STREAM, ring, ring.end, ENOUGH, 0.0)
    assert reported_end(frames) == at(2, 5)
    for offset in range(2, 5):
        ring.append(entry(0, offset), 0.0)
        frames, _ = cursor.take(STREAM, ring, ring.end, ENOUGH, 0.0)
        assert [each.strip() for each in frames] == ([b"0:4"] if offset == 4 else [])


def test_newest_frame_is_not_sent_to_a_client_that_has_it() -> None:
    ring = ring_of((0, 0), (1, 0), (0, 1))
    cursor = Cursor(1, at(2, 0), OnLag.LATEST)
    cursor.skip_to(at(2, 0), 0.0)

    cursor.jump_to_newest(STREAM, ring, 3)

    assert cursor.take(STREAM, ring, 3, ENOUGH, 0.0) == ([], 0)
    assert cursor.skip is None


def test_gap_has_one_marker_per_partition_with_missing_records() -> None:
    markers = gap_entries(STREAM, at(5, 7, 9), at(8, 7, 10, 3), "RETENTION")

    assert markers == [
        Entry(0, 7, 0, lagged(3, at(5, 7, 9), at(8, 7, 9), "RETENTION")),
        Entry(2, 9, 0, lagged(1, at(8, 7, 9), at(8, 7, 10), "RETENTION")),
        Entry(3, 2, 0, lagged(3, at(8, 7, 10), at(8, 7, 10, 3), "RETENTION")),
    ]


@pytest.mark.parametrize("floor", [at(5, 7), at(4, 0), at(5), at()], ids=str)
def test_no_gap_has_no_markers(floor: Position) -> None:
    assert gap_entries(STREAM, at(5, 7), floor, "RETENTION") == []


@given(positions, positions, positions)
def test_client_before_a_gap_gets_one_report_and_client_after_it_none(
    known: Position, floor: Position, client: Position
) -> None:
    ring = Ring(UNBOUNDED, known)
    markers = gap_entries(STREAM, known, floor, "RETENTION")
    for marker in markers:
        assert not ring.covers(marker.partition, marker.offset)
        ring.append(marker, 0.0)

    reported, _ = ring.read(ring.locate(client).start, ring.end, ENOUGH, client)

    missing = {p for p, end in enumerate(floor.offsets) if end > known.next_offset(p)}
    assert {each.partition for each in markers} == missing
    assert [each.partition for each in reported] == [
        partition
        for partition in sorted(missing)
        if client.next_offset(partition) < floor.next_offset(partition)
    ]
    # Having read the markers, the client is after the gap.
    behind = client.merge(ring.head)
    assert not floor.beyond(behind)
    assert ring.read(ring.first, ring.end, ENOUGH, behind)[0] == []


@given(positions, positions)
def test_markers_lead_from_the_known_position_to_the_floor(
    known: Position, floor: Position
) -> None:
    at_end = known
    for marker in gap_entries(STREAM, known, floor, "RETENTION"):
        found = re.search(rb'"from":"([^"]+)","to":"([^"]+)"', marker.frame)
        assert found is not None
        assert found.group(1).decode() == str(at_end)
        at_end = parse(found.group(2).decode())

    assert not floor.beyond(at_end)
    assert not at_end.beyond(known.merge(floor))
