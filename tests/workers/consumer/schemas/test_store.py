from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from energyws.process.board import Board
from energyws.process.counters import NULL_VALUES, SCHEMA_FETCHES
from energyws.schemas.answers import Unreachable
from energyws.settings import Kafka, Settings, Stream
from energyws.settings import SchemaRegistry as Where
from energyws.stream.record import BadRecord, decode
from energyws.testing import SchemaRegistry, eventually
from tests.schemas.samples import (
    AVRO,
    PROTO,
    avro,
    avro_json,
    frame,
    guid_header,
    proto,
    proto_json,
)
from workers.consumer.schemas import store
from workers.consumer.schemas.store import (
    BELIEVE_SECONDS,
    DOUBT_RETRY_SECONDS,
    DOUBT_SECONDS,
    MAX_SCHEMAS,
    MISSING_SECONDS,
    Awaited,
    Schemas,
)
from workers.consumer.schemas.wanted import RETRY_FIRST_SECONDS, RETRY_MAX_SECONDS


@dataclass
class Message:
    data: bytes | None
    pairs: list[tuple[str, bytes]] | None = field(default=None)

    def value(self) -> bytes | None:
        return self.data

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self.pairs


class Stage:
    """Schemas that take a step when the test says so, and their clock."""

    def __init__(self, server: SchemaRegistry) -> None:
        self.server = server
        self.now = 1_000.0
        self.row = Board.create().row(0)
        settings = Settings(
            kafka=Kafka(brokers="b", max_record_bytes=1024),
            streams={
                "plain": Stream(topic="t"),
                **{
                    name: Stream(topic=name, format=name)  # type: ignore[arg-type]
                    for name in ("avro", "protobuf", "json_schema")
                },
            },
            schema_registry=Where(url=server.url, timeout_seconds=2.0),
        )
        self.schemas = Schemas(settings, self.row, lambda: self.now)

    def read(self, stream: str, value: bytes | None, *headers: tuple[str, bytes]) -> Any:
        """The JSON of a record; raises Awaited and BadRecord."""
        message: Any = Message(value, list(headers) or None)
        reader = self.schemas.reader(stream, message)
        return orjson.loads(decode(value, max_bytes=1024, reader=reader))

    def awaits(self, stream: str, value: bytes) -> bool:
        try:
            self.read(stream, value)
        except Awaited:
            return True
        return False

    def refused(self, stream: str, value: bytes) -> str:
        with pytest.raises(BadRecord) as bad:
            self.read(stream, value)
        return bad.value.reason

    def later(self, seconds: float) -> None:
        """Take the steps that are due in this time."""
        until = self.now + seconds
        while True:
            pause = self.schemas.step()
            if pause is None or self.now + pause > until:
                break
            self.now += pause + 0.001
        self.now = until

    @property
    def fetches(self) -> dict[str, int]:
        found = SCHEMA_FETCHES.read(self.row.columns())
        return {result: count for (result,), count in found.items() if count}


@pytest.fixture
def stage() -> Iterator[Stage]:
    with SchemaRegistry() as server:
        yield Stage(server)


def test_schema_is_fetched_once_and_read_with_from_then_on(stage: Stage) -> None:
    known = stage.server.register("s", AVRO)
    for value, *headers in ((frame(known, avro(1)),), (avro(1), guid_header(known))):
        with pytest.raises(Awaited) as awaited:
            stage.read("avro", value, *headers)
        assert not stage.schemas.ready(awaited.value.key)
        stage.later(0)
        assert stage.schemas.ready(awaited.value.key)
        assert stage.read("avro", value, *headers) == avro_json(1)
    stage.server.down = True
    stage.later(10_000)
    assert stage.read("avro", frame(known, avro(2))) == avro_json(2)
    assert stage.server.requests == ["/schemas/ids/1", f"/schemas/guids/{known.guid}"]
    assert stage.fetches == {"fetched": 2}


def test_protobuf_and_json_schema(stage: Stage) -> None:
    known = stage.server.register("s", PROTO, "PROTOBUF")
    assert stage.awaits("protobuf", frame(known, proto(1)))
    stage.later(0)
    assert stage.read("protobuf", frame(known, proto(1))) == proto_json(1)
    assert stage.read("json_schema", b'\0\0\0\0\7 {"n": 1} ') == {"n": 1}
    assert stage.refused("json_schema", b"\0\0\0\0\7[1]") == "not_an_object"
    assert stage.refused("json_schema", b"\0\0\0\0\7") == "empty"
    assert stage.refused("json_schema", b'{"n": 1}') == "not_framed"
    assert stage.server.requests == ["/schemas/ids/1"]


def test_records_that_need_no_schema(stage: Stage) -> None:
    message: Any = Message(b"\0\0\0\0\1x")
    assert stage.schemas.reader("plain", message) is None
    assert stage.read("plain", b'{"n": 1}') == {"n": 1}
    for value, reason in ((None, "tombstone"), (b"", "empty"), (b"{}", "not_framed")):
        assert stage.refused("avro", value) == reason  # type: ignore[arg-type]
    assert stage.server.requests == []


def test_registry_that_is_away_is_asked_until_it_answers(stage: Stage) -> None:
    known = stage.server.register("s", AVRO)
    stage.server.down = True
    for _ in range(6):
        assert stage.awaits("avro", frame(known, avro(1)))
        stage.later(10)
    # 0.25, 0.5, 1, 2, 4, 5, 5 … seconds, or a fifth less.
    assert 14 <= len(stage.server.requests) <= 22
    stage.server.down = False
    stage.later(RETRY_MAX_SECONDS)
    assert stage.read("avro", frame(known, avro(1))) == avro_json(1)
    assert stage.fetches["fetched"] == 1
    assert stage.fetches["failed"] == len(stage.server.requests) - 1


def test_one_schema_that_fails_does_not_delay_the_others(stage: Stage) -> None:
    broken = stage.server.register("s", AVRO)
    good = stage.server.register("s", AVRO)
    del broken.answer["schema"]
    assert stage.awaits("avro", frame(broken, avro(1)))
    stage.later(60)
    assert stage.awaits("avro", frame(good, avro(1)))
    stage.later(0)
    assert stage.read("avro", frame(good, avro(1))) == avro_json(1)
    assert stage.awaits("avro", frame(broken, avro(1)))


def test_nothing_else_is_asked_while_nobody_answers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(registry: object, form: str, schema_id: int, max_bytes: int) -> None:
        asked.append(schema_id)
        raise Unreachable("refused")

    monkeypatch.setattr(store, "load", load)
    for schema_id in range(1, 6):
        assert stage.awaits("avro", b"\0" + schema_id.to_bytes(4, "big") + avro(1))
    stage.later(0)
    assert asked == [1]
    stage.later(RETRY_FIRST_SECONDS)
    assert len(asked) == 2


def test_no_such_schema_is_believed_only_when_it_is_said_for_some_time(stage: Stage) -> None:
    known = stage.server.register("s", AVRO)
    stage.server.unseen.add(known.schema_id)
    value = frame(known, avro(1))
    assert stage.awaits("avro", value)
    stage.later(DOUBT_SECONDS / 2)
    assert stage.awaits("avro", value)
    # The replica that is asked has learned of it.
    stage.server.unseen.clear()
    stage.later(DOUBT_SECONDS / 4)
    assert stage.read("avro", value) == avro_json(1)
    assert stage.fetches == {"fetched": 1}


def test_no_such_schema_is_remembered_for_a_while(stage: Stage) -> None:
    value = b"\0\0\0\0\x09" + avro(1)
    assert stage.awaits("avro", value)
    stage.later(DOUBT_SECONDS + 1)
    assert stage.refused("avro", value) == "unknown_schema"
    # Of the next ones, it is soon believed: records of no schema must not stop a partition.
    other = b"\0\0\0\0\x0a" + avro(1)
    assert stage.awaits("avro", other)
    stage.later(DOUBT_RETRY_SECONDS / 2)
    assert stage.awaits("avro", other)
    stage.later(DOUBT_RETRY_SECONDS)
    assert stage.refused("avro", other) == "unknown_schema"
    assert stage.fetches == {"not_found": 2}
    stage.later(MISSING_SECONDS)
    for _ in range(9):
        stage.server.register("s", AVRO)
    assert stage.awaits("avro", value)
    stage.later(0)
    assert stage.read("avro", value) == avro_json(1)


def test_garbage_costs_the_doubt_about_no_other_schema(stage: Stage) -> None:
    garbage = b"\0\0\0\0\x09" + avro(1)
    assert stage.awaits("avro", garbage)
    stage.later(DOUBT_SECONDS + 1)
    assert stage.refused("avro", garbage) == "unknown_schema"
    known = stage.server.register("s", AVRO)
    stage.server.unseen.add(known.schema_id)
    assert stage.awaits("avro", frame(known, avro(1)))
    stage.later(0)
    # The replica that is asked learns of it a moment later.
    stage.server.unseen.clear()
    stage.later(DOUBT_RETRY_SECONDS)
    assert stage.read("avro", frame(known, avro(1))) == avro_json(1)


def test_id_that_no_registry_has_is_not_asked_for(stage: Stage) -> None:
    # To an id that is no int of Java's, registries answer as to a path that they do not have.
    assert stage.refused("avro", b"\0\x80\0\0\0" + avro(1)) == "unknown_schema"
    assert stage.awaits("avro", b"\0\x7f\xff\xff\xff" + avro(1))
    stage.later(DOUBT_SECONDS + 1)
    assert stage.refused("avro", b"\0\x7f\xff\xff\xff" + avro(1)) == "unknown_schema"
    assert {*stage.server.requests} == {f"/schemas/ids/{2**31 - 1}"}


def test_guid_stops_no_partition_where_the_registry_has_none(stage: Stage) -> None:
    stage.server.guids = False
    value = b"\1" + bytes(range(40))
    assert stage.awaits("avro", value)
    stage.later(DOUBT_SECONDS + 1)
    assert stage.refused("avro", value) == "unknown_schema"
    # Of another server, that is no answer either.
    stage.server.wrong = True
    assert stage.awaits("avro", b"\1" + bytes(40))
    stage.later(BELIEVE_SECONDS)
    assert stage.awaits("avro", b"\1" + bytes(40))


@pytest.mark.parametrize(
    "garbage",
    [
        {"schema": None},
        {"schema": {"type": "record"}},
        {"schemaType": 7},
        {"references": [{"name": [], "subject": "s", "version": 1}]},
        {"references": [{"name": "n", "subject": None, "version": 1}]},
    ],
    ids=repr,
)
def test_garbage_from_the_registry_skips_nothing(stage: Stage, garbage: dict[str, Any]) -> None:
    known = stage.server.register("s", AVRO)
    answer = dict(known.answer)
    known.answer.update(garbage)
    value = frame(known, avro(1))
    assert stage.awaits("avro", value)
    stage.later(60)
    assert stage.awaits("avro", value)
    known.answer.clear()
    known.answer.update(answer)
    stage.later(RETRY_MAX_SECONDS)
    assert stage.read("avro", value) == avro_json(1)


def test_what_a_partition_waits_for_is_asked_before_what_comes_after_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(registry: object, form: str, schema_id: int, max_bytes: int) -> tuple[int, int]:
        asked.append(schema_id)
        return schema_id, 1

    monkeypatch.setattr(store, "load", load)
    for schema_id in range(1, 500):
        assert stage.awaits("avro", b"\0" + schema_id.to_bytes(4, "big") + avro(1))
    assert not stage.schemas.ready(("avro", 400))
    assert not stage.schemas.ready(("avro", 9999))
    stage.later(0)
    assert asked[:2] == [400, 9999]
    assert len(asked) == 500


def test_another_server_at_the_address_is_no_answer(stage: Stage) -> None:
    known = stage.server.register("s", AVRO)
    stage.server.wrong = True
    assert stage.awaits("avro", frame(known, avro(1)))
    stage.later(BELIEVE_SECONDS)
    assert stage.awaits("avro", frame(known, avro(1)))


def test_schema_that_cannot_be_used(stage: Stage) -> None:
    of_json = stage.server.register("s", "{}", "JSON")
    broken = stage.server.register("s", {"type": "record"})
    for each in (of_json, broken):
        assert stage.awaits("avro", frame(each, avro(1)))
        stage.later(0)
        assert stage.refused("avro", frame(each, avro(1))) == "undecodable"


def test_values_that_json_cannot_express_are_counted_when_live(stage: Stage) -> None:
    kind = {"type": "array", "items": ["null", "double", "float"]}
    known = stage.server.register("s", {**AVRO, "fields": [{"name": "v", "type": kind}]})
    nan, infinity, one = (struct.pack("<d", each) for each in (math.nan, math.inf, 1.0))
    payload = b"\x0a\0\2" + nan + b"\2" + infinity + b"\2" + one + b"\4\0\0\xc0\x7f\0"
    value = frame(known, payload)
    message: Any = Message(value)
    assert stage.awaits("avro", value)
    stage.later(0)
    for live in (True, False):
        reader = stage.schemas.reader("avro", message, live=live)
        data = decode(value, max_bytes=1024, reader=reader)
        assert data == b'{"v":[null,null,null,1.0,null]}'
    assert NULL_VALUES.read(stage.row.columns()) == {("avro",): 3, ("protobuf",): 0}


def test_number_of_schemas_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "load", lambda registry, form, schema_id, most: (schema_id, 1))
    for schema_id in range(1, MAX_SCHEMAS + 20):
        assert stage.awaits("avro", b"\0" + schema_id.to_bytes(4, "big") + avro(1))
        stage.later(0)
    assert len(stage.schemas._known) == MAX_SCHEMAS
    assert stage.awaits("avro", b"\0\0\0\0\1" + avro(1))


def test_thread_fetches_and_ends(stage: Stage) -> None:
    known = stage.server.register("s", AVRO)
    stage.schemas.start()
    try:
        value = frame(known, avro(1))
        eventually(lambda: not stage.awaits("avro", value), "the schema is known")
    finally:
        stage.schemas.stop()
        stage.schemas.join(10)
    assert not stage.schemas.is_alive()
