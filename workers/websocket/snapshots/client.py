"""Asks the consumer for snapshots on behalf of a worker's clients.

Rules of this file:

1. What clients wish for in one turn of the loop is asked in few requests, and the keys of one
   client in one: so all of its values are of one position.
2. A scan of many keys is asked for step by step, as its client has room. A step is good for all
   clients of the same scan, also later, so it is kept for a while; so is where a scan began.
3. Requests are sent again until they are answered: a consumer may be replaced meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Final

import zmq

from energyws.protocol.keys import KeyFilter
from energyws.stream.bus_messages import KeyRules, pack_rule
from energyws.stream.snapshot_messages import (
    FindValues,
    Found,
    NotNow,
    ScanValues,
    Slice,
    SnapshotAnswer,
    SnapshotRequest,
    TableState,
    pack_request,
    unpack_answer,
)
from workers.bus.rendezvous import dealer
from workers.bus.socket_reader import SocketReader
from workers.runtime import crash_on_error

# The consumer answers one in a turn of its loop, and takes some 6 us for each key.
KEYS_PER_REQUEST: Final = 256
# While the consumer says: not now.
ASK_AGAIN_SECONDS: Final = 0.25
# A request without an answer is sent again after this long.
SEND_AGAIN_SECONDS: Final = 1.0
# Beyond streams.<name>.snapshot.wait_seconds: clients should try again later, or elsewhere.
GIVE_UP_SECONDS: Final = 15.0
CACHE_BYTES: Final = 8 << 20
# A scan of more than one step may be shared by a client that comes so much later.
SHARED_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Scan:
    """What is left of a scan: the next step begins at `slot`."""

    stream: str
    keys: KeyFilter | None
    state: TableState
    slot: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of state.position, with its first frames. keys: how many it has; None: unknown.

    scan: what is left of it.
    """

    state: TableState
    frames: int
    data: bytes
    keys: int | None
    scan: Scan | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Further frames of a scan, and what is left of it. state: of the table by then."""

    frames: int
    data: bytes
    scan: Scan | None
    state: TableState


# None: the consumer does not answer, or its table was replaced.
OnSnapshot = Callable[[Snapshot | None], None]
OnStep = Callable[[Step | None], None]


@dataclass(eq=False, slots=True)
class _Request:
    """Times are monotonic. done: called with the answer, or None; patient until then.

    subject: whose turn with the consumer it takes; empty: that of no one client.
    """

    body: SnapshotRequest
    subject: str
    done: Callable[[SnapshotAnswer | None], None]
    patient_until: float
    give_up_at: float
    send_at: float = 0.0


@dataclass(slots=True)
class _Wishes:
    """Of one stream in one turn: the keys, and who gets the frames of which."""

    keys: dict[bytes, int] = field(default_factory=dict)
    whose: list[tuple[KeyFilter, OnSnapshot]] = field(default_factory=list)


def has_scan(keys: KeyFilter | None) -> bool:
    """Whether the newest records of these keys are read in steps, as nobody knows how many."""
    return keys is None or bool(keys.prefixes)


class SnapshotClient:
    """directory: the bus's. wait_seconds: of each stream, how long a client rather waits.

    rules: of the worker's settings.
    """

    def __init__(self, directory: Path, wait_seconds: Mapping[str, float], rules: KeyRules) -> None:
        self._loop = asyncio.get_running_loop()
        self._rules = {stream: pack_rule(rule) for stream, rule in rules.items()}
        self._wait_seconds = wait_seconds
        self._numbers = count(1)
        self._requests: dict[int, _Request] = {}
        self._wishes: dict[str, _Wishes] = {}
        self._flush: asyncio.Handle | None = None
        # Scans that have begun, and when; those that begin, and who waits for them.
        self._begun: dict[tuple[str, KeyFilter | None], tuple[float, Snapshot]] = {}
        self._beginning: dict[tuple[str, KeyFilter | None], list[OnSnapshot]] = {}
        self._steps: OrderedDict[Scan, Step] = OrderedDict()
        self._size = 0
        self._stepping: dict[Scan, list[OnStep]] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._dealer = dealer(self._context, directory, "snapshots")
        self._reader = SocketReader(self._loop, self._dealer, self._on_answer)
        self._timer = self._loop.call_later(ASK_AGAIN_SECONDS, self._on_timer)

    def find(self, stream: str, keys: KeyFilter | None, subject: str, done: OnSnapshot) -> None:
        """The newest record of each of these keys; `done` is called once, in a later turn.

        subject: that of the client's token.
        """
        if has_scan(keys):
            self._begin_scan(stream, keys, subject, done)
            return
        assert keys is not None
        wishes = self._wishes.get(stream)
        if wishes is not None and len(wishes.keys) + len(keys) > KEYS_PER_REQUEST:
            self._ask_for(stream)
            wishes = None
        if wishes is None:
            wishes = self._wishes[stream] = _Wishes()
        for key in keys.exact:
            wishes.keys.setdefault(key, len(wishes.keys))
        wishes.whose.append((keys, done))
        if self._flush is None:
            self._flush = self._loop.call_soon(self._on_turn)

    def step(self, scan: Scan, subject: str, done: OnStep) -> Step | None:
        """The next step of a scan; None: `done` will be called with it. subject: as in `find`."""
        step = self._steps.get(scan)
        if step is not None:
            self._steps.move_to_end(scan)
            return step
        if scan in self._stepping:
            self._stepping[scan].append(done)
            return None
        self._stepping[scan] = [done]
        state = scan.state
        body = ScanValues(
            next(self._numbers),
            scan.stream,
            False,
            scan.keys,
            scan.slot,
            state.table,
            state.changes,
        )
        self._send(body, subject, lambda answer: self._on_step(scan, answer), 0.0)
        return None

    def close(self) -> None:
        self._timer.cancel()
        if self._flush is not None:
            self._flush.cancel()
        self._reader.close()
        self._dealer.close()
        self._context.term()

    @crash_on_error
    def _on_turn(self) -> None:
        self._flush = None
        for stream in list(self._wishes):
            self._ask_for(stream)

    def _ask_for(self, stream: str) -> None:
        wishes = self._wishes.pop(stream)
        body = FindValues(next(self._numbers), stream, True, tuple(wishes.keys))
        self._send(body, "", lambda answer: _distribute(wishes, answer), self._waits(stream))

    def _begin_scan(
        self, stream: str, keys: KeyFilter | None, subject: str, done: OnSnapshot
    ) -> None:
        name = stream, keys
        began_at, begun = self._begun.get(name, (0.0, None))
        if begun is not None and time.monotonic() - began_at < SHARED_SECONDS:
            self._loop.call_soon(_tell, done, begun)
            return
        if name in self._beginning:
            self._beginning[name].append(done)
            return
        self._beginning[name] = [done]
        body = ScanValues(next(self._numbers), stream, True, keys)
        self._send(
            body, subject, lambda answer: self._on_begun(stream, keys, answer), self._waits(stream)
        )

    def _waits(self, stream: str) -> float:
        return self._wait_seconds.get(stream, 0.0)

    def _on_begun(self, stream: str, keys: KeyFilter | None, answer: SnapshotAnswer | None) -> None:
        name = stream, keys
        waiting = self._beginning.pop(name)
        snapshot: Snapshot | None = None
        if isinstance(answer, Slice):
            state = answer.state
            left = answer.next_slot
            scan = None if left is None else Scan(stream, keys, state, left)
            known = state.keys if keys is None else answer.frames if scan is None else None
            snapshot = Snapshot(state, answer.frames, answer.data, known, scan)
            if scan is not None:
                self._begun[name] = time.monotonic(), snapshot
        for done in waiting:
            done(snapshot)

    def _on_step(self, scan: Scan, answer: SnapshotAnswer | None) -> None:
        step: Step | None = None
        if isinstance(answer, Slice):
            left = answer.next_slot
            rest = None if left is None else replace(scan, slot=left)
            step = Step(answer.frames, answer.data, rest, answer.state)
            self._steps[scan] = step
            self._size += len(step.data)
            while self._size > CACHE_BYTES and len(self._steps) > 1:
                self._size -= len(self._steps.popitem(last=False)[1].data)
        for done in self._stepping.pop(scan):
            done(step)

    def _send(
        self,
        body: SnapshotRequest,
        subject: str,
        done: Callable[[SnapshotAnswer | None], None],
        wait_seconds: float,
    ) -> None:
        now = time.monotonic()
        patient_until = now + wait_seconds
        request = _Request(body, subject, done, patient_until, patient_until + GIVE_UP_SECONDS)
        self._requests[body.ask] = request
        self._transmit(request, now)

    def _transmit(self, request: _Request, now: float) -> None:
        request.send_at = now + SEND_AGAIN_SECONDS
        if request.body.patient and now >= request.patient_until:
            request.body = replace(request.body, patient=False)
        try:
            parts = [*pack_request(request.body), self._rules[request.body.stream]]
            if isinstance(request.body, ScanValues):
                parts.append(blake2b(request.subject.encode(), digest_size=8).digest())
            self._dealer.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            # No consumer is connected and zmq's queue is full.
            return
        self._reader.after_send()

    def _on_answer(self, parts: list[bytes]) -> None:
        number, answer = unpack_answer(parts)
        request = self._requests.get(number)
        if request is None:
            # A second answer, or one that came too late.
            return
        if isinstance(answer, NotNow):
            request.send_at = time.monotonic() + ASK_AGAIN_SECONDS
            return
        del self._requests[number]
        request.done(answer)

    @crash_on_error
    def _on_timer(self) -> None:
        self._timer = self._loop.call_later(ASK_AGAIN_SECONDS, self._on_timer)
        now = time.monotonic()
        for number, request in list(self._requests.items()):
            if now >= request.give_up_at:
                del self._requests[number]
                request.done(None)
            elif now >= request.send_at:
                self._transmit(request, now)
        old = [name for name, (at, _) in self._begun.items() if now - at >= SHARED_SECONDS]
        for name in old:
            del self._begun[name]


@crash_on_error
def _tell(done: OnSnapshot, snapshot: Snapshot) -> None:
    done(snapshot)


def _distribute(wishes: _Wishes, answer: SnapshotAnswer | None) -> None:
    """Give each wish the frames of its keys."""
    for keys, done in wishes.whose:
        if isinstance(answer, Found):
            frames = [answer.frames[wishes.keys[key]] for key in sorted(keys.exact)]
            present = [frame for frame in frames if frame]
            done(Snapshot(answer.state, len(present), b"".join(present), len(present)))
        else:
            done(None)
