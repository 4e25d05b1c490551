"""The schemas of all streams that have any: each is fetched once, in a thread, and kept.

Whoever reads records asks for a Reader, and gets Awaited for a schema that is yet to be fetched. A
schema's id always means the same schema, so what is known stays good, whatever becomes of the
registry. Schemas that cannot be fetched are asked for again and again: a record is left out only if
the registry says that it knows no such schema, and says so for some time, since a replica may learn
of a new schema a moment after its producer has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from confluent_kafka import Message

from energyws.errors import EnergywsError
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import Row
from energyws.process.counters import NULL_VALUES, SCHEMA_FETCHES
from energyws.schemas.answers import Missing, Unavailable, Unreachable
from energyws.schemas.framing import MAX_ID, unframe
from energyws.schemas.values import BadSchema
from energyws.settings import Settings
from energyws.stream.record import BadRecord, Reader, Reason, decode
from workers.consumer.schemas.kept import Kept, Key
from workers.consumer.schemas.loading import Schema, check_installed, load
from workers.consumer.schemas.registry import Registry
from workers.consumer.schemas.trial import trial
from workers.consumer.schemas.wanted import Wanted
from workers.runtime import crash_on_error

MAX_SCHEMAS: Final = 1000
# Of their texts; what is made of them takes some twenty times as much.
MAX_SCHEMA_BYTES: Final = 8 << 20
# For how long "no such schema" is not believed, how often it is asked again meanwhile, and how long
# after that it is believed the second time: records that are no Avro at all must not stop a
# partition.
DOUBT_SECONDS: Final = 2.0
DOUBT_RETRY_SECONDS: Final = 0.2
BELIEVE_SECONDS: Final = 30.0
LEAST_DENIALS: Final = 2
# How long "no such schema" is remembered.
MISSING_SECONDS: Final = 60.0

_log = Log("schemas")


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
        self._known: Kept[Schema | _Fault] = Kept(MAX_SCHEMAS, MAX_SCHEMA_BYTES)
        # Apart, so that records of no schema at all do not displace schemas.
        self._missing: Kept[_Fault] = Kept(MAX_SCHEMAS, 0)
        self._wanted = Wanted()
        self._on_null = {form: partial(self._count_nulls, form) for form in self._formats.values()}
        self._wake = threading.Event()
        self._stopping = False
        self._doubt_until = clock() - BELIEVE_SECONDS
        self._limited = RateLimitedLog(_log, 10.0)

    def reader(self, stream: str, message: Message, *, live: bool = False) -> Reader | None:
        """How to make JSON of a record's value; None: it is JSON. Raises Awaited.

        live: its values that JSON cannot express are counted, by the thread that calls the reader.
        """
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
            if isinstance(schema_id, int) and schema_id > MAX_ID:
                return partial(_refuse, "unknown_schema", "no schema has an id of over 31 bits")
            self._want(key, urgent=False)
            raise Awaited(key)
        if isinstance(found, _Fault):
            return partial(_refuse, found.reason, found.detail)
        return partial(_read, found, indexes, begin, self._on_null[form] if live else _ignore)

    def ready(self, key: Key) -> bool:
        """Whether this schema is known by now, or known not to exist."""
        if self._find(key) is not None:
            return True
        self._want(key, urgent=True)
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
        while not self._stopping and (key := self._wanted.next(self._clock())) is not None:
            self._fetch(key)
        return self._wanted.pause(self._clock())

    def _find(self, key: Key) -> Schema | _Fault | None:
        found = self._known.get(key)
        if found is None and (missing := self._missing.get(key)) is not None:
            return missing if self._clock() < missing.until else None
        return found

    def _want(self, key: Key, *, urgent: bool) -> None:
        if self._wanted.ask(key, self._clock(), urgent=urgent):
            self._wake.set()

    def _fetch(self, key: Key) -> None:
        form, schema_id = key
        try:
            found, size = load(self._registry, form, schema_id, self._max_bytes)
        except Missing as missing:
            denials = self._wanted.denied(key, self._clock() + DOUBT_RETRY_SECONDS)
            if self._doubts() or denials < LEAST_DENIALS:
                return
            SCHEMA_FETCHES.count(self._row, "not_found")
            until = self._clock() + MISSING_SECONDS
            fault = _Fault("unknown_schema", f"schema {schema_id}: {missing}", until)
            self._missing.keep(key, fault)
        except BadSchema as bad:
            SCHEMA_FETCHES.count(self._row, "fetched")
            self._known.keep(key, _Fault("undecodable", f"schema {schema_id}: {bad}"))
        except Unavailable as unavailable:
            SCHEMA_FETCHES.count(self._row, "failed")
            everything = isinstance(unavailable, Unreachable)
            self._wanted.failed(key, self._clock(), everything=everything)
            self._limited.warning(
                "schema cannot be fetched: trying again", schema=schema_id, reason=unavailable
            )
            return
        else:
            SCHEMA_FETCHES.count(self._row, "fetched")
            _log.info("schema fetched", schema=schema_id, format=form)
            self._known.keep(key, found, size)
        self._wanted.done(key)

    def _count_nulls(self, form: str, count: int) -> None:
        NULL_VALUES.count(self._row, form, amount=count)

    def _doubts(self) -> bool:
        """Whether "no such schema" may be the answer of a replica that has yet to learn of it."""
        now = self._clock()
        if now >= self._doubt_until + BELIEVE_SECONDS:
            self._doubt_until = now + DOUBT_SECONDS
        return now < self._doubt_until


def _read(
    schema: Schema,
    indexes: tuple[int, ...],
    begin: int,
    on_null: Callable[[int], None],
    value: bytes,
) -> bytes:
    return schema.read(indexes, value[begin:], on_null)


def _ignore(count: int) -> None:
    pass


def _read_json(begin: int, max_bytes: int, value: bytes) -> bytes:
    return decode(value[begin:], max_bytes=max_bytes)


def _refuse(reason: Reason, detail: str, value: bytes) -> bytes:
    raise BadRecord(reason, detail)
