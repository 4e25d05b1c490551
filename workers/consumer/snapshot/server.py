"""Answers workers' requests for snapshots from the tables of last values, on the event loop.

A table has exactly the records before the head of its stream's ring, since both change in the same
step; so each answer is exact for the position that it names. One request is answered in a turn of
the loop, and live records come in between. Requests for exact keys come first, since they are
small; subjects with scans take turns, by how much they are given.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import zmq

from energyws.protocol.frame import DataFrames
from energyws.stream.bus_messages import KeyRules, pack_rule
from energyws.stream.fair_turns import FairTurns
from energyws.stream.last_values import LastValues
from energyws.stream.snapshot_messages import (
    FindValues,
    Found,
    NotNow,
    OtherTable,
    ScanValues,
    Slice,
    SnapshotAnswer,
    SnapshotRequest,
    TableState,
    pack_answer,
    unpack_request,
)
from workers.bus.rendezvous import endpoint
from workers.bus.socket_reader import SocketReader
from workers.consumer.intake import Intake
from workers.runtime import crash_on_error

# The slots that one step of a scan looks at, and about how many bytes it gives.
SLOTS_PER_STEP: Final = 2_000
STEP_BYTES: Final = 128 * 1024
# What a step costs its subject besides its bytes: it may look at all of its slots for none.
STEP_COST: Final = 32 * 1024

_NO_TABLE: Final = LastValues(0, 0)

# The worker, and the number of its request.
_Asked = tuple[bytes, int]


class SnapshotServer:
    """intakes: by stream, kept by the process. bytes_per_second: of all scans together.

    rules: of the consumer's settings.
    """

    def __init__(
        self,
        directory: Path,
        intakes: Mapping[str, Intake],
        bytes_per_second: int,
        rules: KeyRules,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._intakes = intakes
        self._rules = {stream: pack_rule(rule) for stream, rule in rules.items()}
        self._bytes_per_second = bytes_per_second
        self._frames: dict[str, DataFrames] = {}
        # A table's name, so that no scan goes on with another one.
        self._names: dict[str, tuple[LastValues, str]] = {}
        # A request that is sent again while it waits is the same one.
        self._finds: dict[_Asked, SnapshotRequest] = {}
        self._scans: dict[_Asked, SnapshotRequest] = {}
        self._turns = FairTurns[_Asked]()
        # When the next step of a scan may be answered.
        self._scan_at = 0.0
        self._handle: asyncio.Handle | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self._router.bind(endpoint(directory, "snapshots"))
        self._reader = SocketReader(self._loop, self._router, self._on_request)

    def close(self) -> None:
        """Close the socket; workers ask the next consumer again."""
        if self._handle is not None:
            self._handle.cancel()
        self._reader.close()
        self._router.close()
        self._context.term()

    def _on_request(self, parts: list[bytes]) -> None:
        identity, *rest = parts
        request = unpack_request(rest)
        # During an upgrade, a worker of the version before sends neither.
        rules, subjects = rest[3:4], rest[4:]
        if rules not in ([], [self._rules.get(request.stream)]):
            # Its clients must not get records by keys from elsewhere.
            return
        asked = identity, request.ask
        if isinstance(request, FindValues):
            self._finds[asked] = request
        else:
            if asked not in self._scans:
                self._turns.join((subjects or [identity])[0], asked)
            self._scans[asked] = request
        self._schedule()

    def _schedule(self) -> None:
        if self._handle is not None:
            return
        if self._finds or (self._scans and self._scan_at <= self._loop.time()):
            self._handle = self._loop.call_soon(self._on_turn)
        elif self._scans:
            self._handle = self._loop.call_at(self._scan_at, self._on_turn)

    @crash_on_error
    def _on_turn(self) -> None:
        self._handle = None
        now = self._loop.time()
        if self._finds:
            asked = next(iter(self._finds))
            self._reply(asked, self._finds.pop(asked))
        elif self._scans and self._scan_at <= now:
            subject, asked = self._turns.take()
            size = self._reply(asked, self._scans.pop(asked))
            self._turns.charge(subject, size + STEP_COST)
            self._scan_at = max(self._scan_at, now) + size / self._bytes_per_second
        self._schedule()

    def _reply(self, asked: _Asked, request: SnapshotRequest) -> int:
        """Answer a request; returns how many bytes that takes."""
        identity, ask = asked
        parts = pack_answer(ask, self._answer(request))
        try:
            self._router.send_multipart([identity, *parts], zmq.NOBLOCK)
        except zmq.Again:
            # This worker reads nothing at present; it sends the request again.
            return 0
        self._reader.after_send()
        return sum(map(len, parts))

    def _answer(self, request: SnapshotRequest) -> SnapshotAnswer:
        intake = self._intakes.get(request.stream)
        if intake is None or intake.ring is None:
            return NotNow()
        # Amid a reload, a worker may count on a table that this consumer does not have.
        values = _NO_TABLE if intake.values is None else intake.values
        if request.patient and not values.warm:
            return NotNow()
        state = TableState(
            intake.ring.head,
            values.complete,
            values.since_ms,
            len(values),
            self._name(request.stream, values),
            values.changes,
        )
        frames = self._frames.setdefault(request.stream, DataFrames(request.stream))
        if isinstance(request, ScanValues):
            return _step(request, values, state, frames)
        found = [values.find(key) for key in request.keys]
        return Found(state, [b"" if each is None else frames.snapshot(*each) for each in found])

    def _name(self, stream: str, values: LastValues) -> str:
        table, name = self._names.get(stream, (None, ""))
        if table is not values:
            name = secrets.token_hex(8)
            self._names[stream] = values, name
        return name


def _step(
    request: ScanValues, values: LastValues, state: TableState, frames: DataFrames
) -> Slice | OtherTable:
    if request.table not in (None, state.table):
        return OtherTable()
    changes = state.changes if request.changes is None else request.changes
    scanned = values.scan(request.slot, changes, request.keys, SLOTS_PER_STEP, STEP_BYTES)
    data = b"".join(frames.snapshot(*value) for value in scanned.values)
    return Slice(state, len(scanned.values), data, scanned.next_slot)
