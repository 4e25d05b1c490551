from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.schemas.answers import (
    Document,
    Missing,
    Reference,
    Unavailable,
    Unreachable,
    document,
    path_of,
    path_of_version,
)


def body(**answer: object) -> bytes:
    return json.dumps(answer).encode()


def test_schema_with_what_it_refers_to() -> None:
    assert document(200, body(schema='"int"')) == Document('"int"', "AVRO")
    reference = {"name": "a.proto", "subject": "a", "version": 2}
    found = document(200, body(schema="x", schemaType="PROTOBUF", references=[reference]))
    assert found == Document("x", "PROTOBUF", (Reference("a.proto", "a", 2),))


def test_paths() -> None:
    assert path_of(7) == "/schemas/ids/7"
    assert path_of("a-b") == "/schemas/guids/a-b"
    assert path_of_version("a/b c", 2) == "/subjects/a%2Fb%20c/versions/2?deleted=true"
    # One that was deleted says nothing of what is written now.
    assert path_of_version("a", "latest") == "/subjects/a/versions/latest"


@pytest.mark.parametrize("code", [40401, 40402, 40403])
def test_registry_that_knows_no_such_schema(code: int) -> None:
    with pytest.raises(Missing):
        document(404, body(error_code=code, message="not found"))


@pytest.mark.parametrize(
    ("status", "answer", "misconfigured", "says"),
    [
        (404, b"<html>default backend - 404", True, "schema_registry.url"),
        (404, body(error_code=404), True, "schema_registry.url"),
        (302, b"", True, "schema_registry.url"),
        (401, body(error_code=401), True, "schema_registry.username"),
        (403, b"", True, "schema_registry.username"),
        (200, b"<html>", True, "schema_registry.url"),
        (200, b'["schema"]', True, "schema_registry.url"),
        (200, body(schema="x", references=[{"name": "n"}]), True, "schema_registry.url"),
        (200, body(schema=None), True, "schema_registry.url"),
        (200, body(schema="x", schemaType=["AVRO"]), True, "schema_registry.url"),
        (500, body(error_code=50001), False, "500"),
        (503, b"", False, "503"),
        (429, b"", False, "429"),
    ],
)
def test_any_other_answer_is_none(
    status: int, answer: bytes, misconfigured: bool, says: str
) -> None:
    with pytest.raises(Unavailable, match=says) as unavailable:
        document(status, answer)
    assert unavailable.value.misconfigured is misconfigured


@pytest.mark.parametrize(
    ("status", "everything"),
    [(401, True), (403, False), (404, False), (429, True), (500, False), (503, True), (200, False)],
)
def test_whether_others_would_be_answered(status: int, everything: bool) -> None:
    with pytest.raises(Unavailable) as unavailable:
        document(status, b"{}")
    assert isinstance(unavailable.value, Unreachable) is everything


@given(st.integers(100, 599), st.binary(max_size=60))
def test_any_answer_has_a_meaning(status: int, answer: bytes) -> None:
    with contextlib.suppress(Missing, Unavailable):
        assert document(status, answer).text
