"""The schemas allow exactly what the service understands and sends."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from energyws.errors import BAD_JSON, ERROR_CODES, UNKNOWN_TYPE, ErrorCode
from energyws.protocol import frame, messages
from energyws.protocol.messages import BadClientMessage, Subscribed, Unrecovered
from energyws.stream.ring import LAGGED
from tests.clients import first_frame
from tests.contract.schemas import CONTRACT, SCHEMAS, strict, validator
from tests.protocol.test_messages import BAD_MESSAGES, PARSED, near_messages

CLIENT = ("subscribe", "unsubscribe", "ping", "auth")
OF_HTTP = ("last", "end")
# What a schema cannot say: that one field names what another has, that a time exists, and that 1.0
# is no integer.
BEYOND_SCHEMAS = {
    "resume of another stream",
    "resume of another stream with a long name",
    "since on an impossible date",
    "since with an impossible zone",
    "last as a float",
}
PAGE = (CONTRACT.parent / "protocol.md").read_text()


def sent(raw: bytes) -> Any:
    """The message in a frame of the service."""
    content = first_frame(raw)
    assert content is not None
    return json.loads(content[0])


def constants(schema: dict[str, Any]) -> list[str]:
    return [each["const"] for each in schema["anyOf"] if "const" in each]


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_one(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"https://energyws.example/schemas/{name}.json"
    assert schema["properties"]["type"] == {"const": name}
    for key, field in schema["properties"].items():
        assert key == "type" or "$ref" in str(field) or field["description"]


def test_every_message_of_the_protocol_has_a_schema() -> None:
    named = set(re.findall(r'^\| `\{"type":"([a-z]+)"', PAGE, re.MULTILINE))
    assert {*SCHEMAS} == named | {*OF_HTTP}


@pytest.mark.parametrize("name", PARSED)
def test_understood_message_is_valid(name: str) -> None:
    message = json.loads(PARSED[name][0])
    validator(message["type"]).validate(message)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, (_, code, _) in BAD_MESSAGES.items()
        if code not in (BAD_JSON, UNKNOWN_TYPE) and name not in BEYOND_SCHEMAS
    ],
)
def test_refused_message_is_invalid(name: str) -> None:
    message = json.loads(BAD_MESSAGES[name][0])
    assert not any(validator(kind).is_valid(message) for kind in CLIENT)


@given(near_messages)
def test_service_understands_what_is_valid(message: dict[str, Any]) -> None:
    kind = message["type"]
    if kind not in CLIENT or isinstance(message.get("last"), float):
        return
    resume, streams = message.get("resume"), message.get("streams")
    if isinstance(resume, dict) and not (
        isinstance(streams, list) and {*resume} <= {*map(str, streams)}
    ):
        return
    try:
        messages.parse(json.dumps(message).encode())
        understood = True
    except BadClientMessage as error:
        understood = False
        if error.error is BAD_JSON:
            # NaN, or an integer of more than 64 bits.
            return
    assert validator(kind).is_valid(message) is understood


@pytest.mark.parametrize("code", ERROR_CODES, ids=lambda code: code.code)
def test_codes_are_sent_as_the_schema_says(code: ErrorCode) -> None:
    strict("notice" if code.notice else "error").validate(sent(messages.error(code)))
    strict("error").validate(json.loads(messages.error_body(code, "detail")))


def test_every_code_and_reason_is_in_its_schema() -> None:
    codes = SCHEMAS["error"]["properties"]["code"], SCHEMAS["notice"]["properties"]["code"]
    assert constants(codes[0]) == [each.code for each in ERROR_CODES]
    assert constants(codes[1]) == [each.code for each in ERROR_CODES if each.notice]
    for schema in codes:
        for each in schema["anyOf"][:-1]:
            (code,) = [known for known in ERROR_CODES if known.code == each["const"]]
            assert each["description"] == f"{code.message}."
    reasons = [each.value for each in Unrecovered]
    start = SCHEMAS["subscribed"]["$defs"]["start"]["properties"]
    assert constants(start["reason"]) == reasons
    assert constants(SCHEMAS["end"]["properties"]["reason"]) == reasons
    lagged = {*reasons, LAGGED} - {Unrecovered.BAD_POSITION.value}
    assert {*constants(SCHEMAS["lagged"]["properties"]["reason"])} == lagged


SENT = {
    "data": frame.DataFrames("energy").build(0, b'{"n":1}', "aa-1"),
    "data, with a key": frame.DataFrames("energy").build(0, b'{"n":1}', "aa-1", b"a"),
    "removed": frame.DataFrames("energy").removed(0, "aa-1", b"a"),
    "pong": messages.pong(1),
    "authenticated": messages.authenticated(1),
    "unsubscribed": messages.unsubscribed(["a", "b"]),
    "reconnect": messages.reconnect(0),
    "lagged": frame.lagged("energy", 3, "aa-1", "aa-4", LAGGED),
    "position": messages.position("energy", "aa-4"),
    "subscribed, some keys": messages.subscribed({"energy": Subscribed("aa-1", True, None)}),
    "lagged, unknown": frame.lagged("energy", None, None, "aa-4", "POSITION_AHEAD"),
    "subscribed": messages.subscribed({"energy": Subscribed("aa-1"), "b": Subscribed("bb-1")}),
    "subscribed, recovered": messages.subscribed({"energy": Subscribed("aa-1", True, 7)}),
    "subscribed, not recovered": messages.subscribed(
        {
            "a": Subscribed("aa-1", False, 7, Unrecovered.RETENTION, "aa-0", (1, 2)),
            "b": Subscribed("aa-1", False, 0, Unrecovered.BAD_POSITION),
        }
    ),
}


# A message without these is another good one.
OPTIONAL = {("data", "key"), ("position", "conflated"), ("subscribed", "keys")}
OPTIONAL |= {("subscribed", "snapshots"), ("position", "snapshot")}


@pytest.mark.parametrize("name", SENT)
def test_sent_message_is_valid(name: str) -> None:
    message = sent(SENT[name])
    strict(message["type"]).validate(message)
    validator(message["type"]).validate({**message, "further": 1})
    assert not strict(message["type"]).is_valid({**message, "further": 1})
    for key in message:
        less = {other: value for other, value in message.items() if other != key}
        is_optional = (message["type"], key) in OPTIONAL
        assert validator(message["type"]).is_valid(less) is is_optional
