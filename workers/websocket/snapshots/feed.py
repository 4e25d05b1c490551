"""A snapshot on its way to one client, which gets it as fast as it reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from energyws.protocol.frame import split
from energyws.protocol.keys import KeyFilter, key_of_snapshot
from energyws.protocol.position import Position
from energyws.protocol.snapshot_told import SnapshotTold
from energyws.stream.snapshot_messages import TableState
from workers.websocket.snapshots.client import Scan, Snapshot, SnapshotClient, Step

PIECE_BYTES: Final = 64 * 1024


class Feed:
    """position: that of the snapshot. told: what its client is told of it, before it comes.

    had: what it is told at the end, because the table has dropped keys meanwhile; None: nothing.
    failed: the rest of it cannot be had. subject: that of its client's token. wake: called once
    there is more of it.
    """

    __slots__ = (
        "_asked",
        "_client",
        "_on_more",
        "_only",
        "_pieces",
        "_scan",
        "_subject",
        "_wake",
        "failed",
        "had",
        "position",
        "told",
    )

    def __init__(
        self,
        client: SnapshotClient,
        snapshot: Snapshot,
        subject: str,
        wake: Callable[[], None],
    ) -> None:
        state = snapshot.state
        self.position: Final[Position] = state.position
        self.told = SnapshotTold(state.complete, state.since_ms, snapshot.keys)
        self.had: SnapshotTold | None = None
        self.failed = False
        self._client = client
        self._subject = subject
        self._wake = wake
        self._pieces = deque(_pieces(snapshot.frames, snapshot.data))
        self._scan: Scan | None = snapshot.scan
        self._asked = False
        self._on_more: Callable[[], None] | None = None
        # Of the keys that its client had when it began, those that it still has.
        self._only: KeyFilter | None = None

    @property
    def over(self) -> bool:
        """Whether all of it was taken."""
        return not self._pieces and self._scan is None

    def take(self, on_more: Callable[[], None]) -> tuple[int, bytes] | None:
        """The next frames, how many and joined; None: on_more is called once there are any."""
        if not self._pieces and not self._look():
            self._on_more = on_more
            return None
        return self._pieces.popleft() if self._pieces else (0, b"")

    def goes_on(self, keys: KeyFilter | None) -> None:
        """Its client has subscribed again amid it, and gets these keys from now on; None: all.

        What is left is for those of its keys that the client has had all the time.
        """
        # How many of those it has not got yet, nobody has counted.
        self.told = replace(self.told, keys=None)
        if keys is not None:
            self._only = keys if self._only is None else self._only.common(keys)
            pieces, self._pieces = self._pieces, deque()
            for frames, data in pieces:
                self._take_in(frames, data)

    def _look(self) -> bool:
        """Get the next step of the scan, if it is here."""
        if self._scan is not None and not self._asked and not self.failed:
            step = self._client.step(self._scan, self._subject, self._on_step)
            if step is None:
                self._asked = True
            else:
                self._add(step)
        return not self._asked

    def _on_step(self, step: Step | None) -> None:
        self._asked = False
        if step is None:
            self.failed = True
        else:
            self._add(step)
        on_more, self._on_more = self._on_more, None
        if on_more is not None:
            on_more()
            self._wake()

    def _add(self, step: Step) -> None:
        self._take_in(step.frames, step.data)
        self._scan = step.scan
        self.had = _less(self.told, step.state)

    def _take_in(self, frames: int, data: bytes) -> None:
        if self._only is not None:
            frames, data = _kept(data, self._only)
        self._pieces.extend(_pieces(frames, data))


def _less(told: SnapshotTold, state: TableState) -> SnapshotTold | None:
    """What a snapshot has that was begun before `state`; None: no less than was told."""
    if not told.complete and told.since_ms is None:
        return None
    if state.complete or state.since_ms == told.since_ms is not None:
        return None
    return replace(told, complete=False, since_ms=state.since_ms)


def _kept(data: bytes, keys: KeyFilter) -> tuple[int, bytes]:
    """Of these frames those of some keys: how many, and joined."""
    kept = [whole for whole, payload in split(data) if keys.admits(key_of_snapshot(payload))]
    return len(kept), b"".join(kept)


def _pieces(frames: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """The same frames, in pieces of PIECE_BYTES, or of one frame that is larger."""
    if len(data) <= PIECE_BYTES:
        if frames:
            yield frames, data
        return
    begin = end = count = 0
    for whole, _ in split(data):
        if count and end + len(whole) - begin > PIECE_BYTES:
            yield count, data[begin:end]
            begin, count = end, 0
        end += len(whole)
        count += 1
    yield count, data[begin:end]
