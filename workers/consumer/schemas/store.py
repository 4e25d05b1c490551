"""The schemas of all streams that have any: each is fetched once, in a thread, and kept.

Whoever reads records asks for a Reader, and gets Awaited for a schema that is yet to be fetched. A
schema's id always means the same schema, so what is known stays good, whatever becomes of the
registry. Schemas that cannot be fetched are asked for again and again: a record is left out only if
the registry says that it knows no such schema, and says so for some time, since a replica may learn
of a new schema a moment after its producer has.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from confluent_kafka import Message

from energyws.errors import EnergywsError
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import Row
from energyws.process.counters import SCHEMA_FETCHES
from energyws.schemas.answers import Missing, Unavailable
from energyws.schemas.framing import SchemaId, unframe
from energyws.schemas.values import BadSchema
from energyws.settings import Settings
from energyws.stream.record import BadRecord, Reader, Reason, decode
from workers.consumer.schemas.loading import Schema, check_installed, load
from workers.consumer.schemas.registry import Registry, Unreachable
from workers.consumer.schemas.trial import trial
from workers.runtime import crash_on_error

MAX_SCHEMAS: Final = 1000
MAX_WANTED: Final = 1000
RETRY_FIRST_SECONDS: Final = 0.25
RETRY_MAX_SECONDS: Final = 5.0
# Replicas that lost the registry together must not ask it together.
JITTER: Final = 0.2
# For how long "no such schema" is not believed, how often it is asked again meanwhile, and how long
# after that it is believed at once: records that are no Avro at all must not stop a partition.
DOUBT_SECONDS: Final = 2.0
DOUBT_RETRY_SECONDS: Final = 0.2
BELIEVE_SECONDS: Final = 30.0
# How long "no such schema" is remembered.
MISSING_SECONDS: Final = 60.0

_log = Log("schemas")

Key = tuple[str, SchemaId]
_Kept = TypeVar("_Kept")


class Awaited(EnergywsError):
    """The record's schema is yet to be fetched: come again once `Schemas.ready(key)`."""

    def __init__(self, key: Key) -> None:
        super().__init__(f"schema {key[1]} is awaited")
        self.key = key


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong with all records of a schema. until: monotonic seconds."""

    reason: Reason
    detail: str
    until: float = float("inf")


@dataclass(slots=True)
class _Wanted:
    due: float
    failures: int = 0


class Schemas(threading.Thread):
    """Raises BootError if what a stream's format needs is not installed."""

    def __init__(
        self, settings: Settings, row: Row, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(name="schemas", daemon=True)
        check_installed(settings)
        self._formats = {
            name: stream.format
            for name, stream in settings.streams.items()
            if stream.format != "json"
        }
        self._settings = settings
        self._max_bytes = settings.kafka.max_record_bytes
        self._row = row
        self._clock = clock
        self._registry = Registry(settings.schema_registry)
        self._known: dict[Key, Schema | _Fault] = {}
        # Apart, so that records of no schema at all do not displace schemas.
        self._missing: dict[Key, _Fault] = {}
        self._wanted: dict[Key, _Wanted] = {}
        # Held while either is changed; reading one key needs no lock.
        self._changing = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._unreachable = _Wanted(clock())
        self._doubt_until = clock() - BELIEVE_SECONDS
        self._limited = RateLimitedLog(_log, 10.0)

    def reader(self, stream: str, message: Message) -> Reader | None:
        """How to make JSON of a record's value; None: it is JSON. Raises Awaited."""
        form = self._formats.get(stream)
        if form is None or (value := message.value()) is None:
            return None
        try:
            headers = message.headers()
        except UnicodeDecodeError:
            # The client makes text of all names at once.
            headers = None
        # Its type allows what only a producer may give.
        pairs = headers if isinstance(headers, list) else ()
        try:
            schema_id, indexes, begin = unframe(value, pairs, indexed=form == "protobuf")
        except BadRecord as bad:
            # An empty value has a reason of its own.
            return partial(_refuse, bad.reason, str(bad)) if value else None
        if form == "json_schema":
            # What the schema says of the value changes nothing about it.
            return partial(_read_json, begin, self._max_bytes)
        key = form, schema_id
        found = self._find(key)
        if found is None:
            self._want(key)
            raise Awaited(key)
        if isinstance(found, _Fault):
            return partial(_refuse, found.reason, found.detail)
        return partial(_read, found, indexes, begin)

    def ready(self, key: Key) -> bool:
        """Whether this schema is known by now, or known not to exist."""
        if self._find(key) is not None:
            return True
        self._want(key)
        return False

    def stop(self) -> None:
        """End the thread soon, without waiting for it."""
        self._stopping = True
        self._wake.set()

    @crash_on_error
    def run(self) -> None:
        """The thread; it ends at once where no stream has schemas."""
        if not self._formats:
            return
        for _, problem in trial(self._settings):
            _log.warning("schema registry cannot be used as it is", reason=problem)
        while not self._stopping:
            self._wake.clear()
            self._wake.wait(self.step())

    def step(self) -> float | None:
        """Ask for what is due; in how many seconds to come again, None: when there is news."""
        for key in list(self._wanted):
            if self._stopping or self._unreachable.due > self._clock():
                break
            if self._wanted[key].due <= self._clock():
                self._fetch(key)
        if not self._wanted:
            return None
        due = max(self._unreachable.due, min(each.due for each in self._wanted.values()))
        return max(0.0, due - self._clock())

    def _find(self, key: Key) -> Schema | _Fault | None:
        found = self._known.get(key)
        if found is None and (missing := self._missing.get(key)) is not None:
            return missing if self._clock() < missing.until else None
        return found

    def _want(self, key: Key) -> None:
        with self._changing:
            if key in self._wanted or len(self._wanted) >= MAX_WANTED:
                return
            self._wanted[key] = _Wanted(self._clock())
        self._wake.set()

    def _fetch(self, key: Key) -> None:
        form, schema_id = key
        try:
            found: Schema | _Fault = load(self._registry, form, schema_id, self._max_bytes)
        except Missing as missing:
            if self._doubts():
                self._wanted[key].due = self._clock() + DOUBT_RETRY_SECONDS
                return
            SCHEMA_FETCHES.count(self._row, "not_found")
            until = self._clock() + MISSING_SECONDS
            fault = _Fault("unknown_schema", f"schema {schema_id}: {missing}", until)
            self._keep(self._missing, key, fault)
        except BadSchema as bad:
            SCHEMA_FETCHES.count(self._row, "fetched")
            self._keep(self._known, key, _Fault("undecodable", f"schema {schema_id}: {bad}"))
        except Unavailable as unavailable:
            SCHEMA_FETCHES.count(self._row, "failed")
            # Where nothing answers, no other schema would be answered either.
            self._retry(self._wanted[key])
            if isinstance(unavailable, Unreachable):
                self._retry(self._unreachable)
            self._limited.warning(
                "schema cannot be fetched: trying again", schema=schema_id, reason=unavailable
            )
            return
        else:
            SCHEMA_FETCHES.count(self._row, "fetched")
            _log.info("schema fetched", schema=schema_id, format=form)
            self._keep(self._known, key, found)
        self._unreachable.failures = 0

    def _keep(self, kept: dict[Key, _Kept], key: Key, found: _Kept) -> None:
        """Keep an answer, and the newest of the others."""
        with self._changing:
            kept.pop(key, None)
            while len(kept) >= MAX_SCHEMAS:
                del kept[next(iter(kept))]
            kept[key] = found
            del self._wanted[key]

    def _retry(self, wanted: _Wanted) -> None:
        pause = min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2.0 ** min(wanted.failures, 10))
        wanted.failures += 1
        wanted.due = self._clock() + pause * random.uniform(1 - JITTER, 1)

    def _doubts(self) -> bool:
        """Whether "no such schema" may be the answer of a replica that has yet to learn of it."""
        now = self._clock()
        if now >= self._doubt_until + BELIEVE_SECONDS:
            self._doubt_until = now + DOUBT_SECONDS
        return now < self._doubt_until


def _read(schema: Schema, indexes: tuple[int, ...], begin: int, value: bytes) -> bytes:
    return schema.read(indexes, value[begin:])


def _read_json(begin: int, max_bytes: int, value: bytes) -> bytes:
    return decode(value[begin:], max_bytes=max_bytes)


def _refuse(reason: Reason, detail: str, value: bytes) -> bytes:
    raise BadRecord(reason, detail)
