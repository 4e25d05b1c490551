from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.errors import (
    BAD_JSON,
    BAD_MESSAGE,
    RATE_LIMITED,
    SHUTTING_DOWN,
    STREAM_UNAVAILABLE,
    UNAUTHORIZED,
    UNKNOWN_TYPE,
    ErrorCode,
)
from energyws.protocol import frame, messages
from energyws.protocol.http.queries import MAX_QUERY_FIELDS, parse_query
from energyws.protocol.messages import (
    MAX_LAST,
    MAX_STREAMS,
    MAX_TOKEN_BYTES,
    BadClientMessage,
    ClientMessage,
    OnLag,
    Ping,
    Renew,
    Subscribe,
    Subscribed,
    Unrecovered,
    Unsubscribe,
    parse,
)
from energyws.protocol.snapshot_told import SnapshotTold

PROTOCOL_PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
ID = "7f3a90c2-1042.998.17"
# 2025-12-26T12:34:56.789Z
NOON = 1_766_752_496_789


def subscribe(
    *streams: str,
    resume: dict[str, str] | None = None,
    last: int | None = None,
    on_lag: OnLag = OnLag.SKIP,
    since_ms: int | None = None,
    snapshot: bool = False,
    max_rate: float | None = None,
) -> Subscribe:
    history = resume or {}
    return Subscribe(streams, history, last, on_lag, since_ms, snapshot=snapshot, max_rate=max_rate)


PARSED: dict[str, tuple[str, ClientMessage]] = {
    "subscribe": ('{"type":"subscribe","streams":["energy"]}', subscribe("energy")),
    "subscribe, with spaces": (
        '{"type": "subscribe", "streams": ["energy"]}',
        subscribe("energy"),
    ),
    "several streams": ('{"type":"subscribe","streams":["b","a"]}', subscribe("b", "a")),
    "a stream twice": ('{"type":"subscribe","streams":["a","b","a"]}', subscribe("a", "b")),
    "resume": (
        '{"type":"subscribe","streams":["energy"],"resume":{"energy":"7f3a90c2-1042.998.17"}}',
        subscribe("energy", resume={"energy": "7f3a90c2-1042.998.17"}),
    ),
    "resume of one of two": (
        '{"type":"subscribe","streams":["a","b"],"resume":{"b":"7f-1"}}',
        subscribe("a", "b", resume={"b": "7f-1"}),
    ),
    "resume with an invalid position": (
        '{"type":"subscribe","streams":["a"],"resume":{"a":"nonsense"}}',
        subscribe("a", resume={"a": "nonsense"}),
    ),
    "resume with nothing": ('{"type":"subscribe","streams":["a"],"resume":{}}', subscribe("a")),
    "null resume": ('{"type":"subscribe","streams":["a"],"resume":null}', subscribe("a")),
    "last": ('{"type":"subscribe","streams":["a"],"last":10}', subscribe("a", last=10)),
    "last zero": ('{"type":"subscribe","streams":["a"],"last":0}', subscribe("a", last=0)),
    "last at its maximum": (
        '{"type":"subscribe","streams":["a"],"last":1000000}',
        subscribe("a", last=1_000_000),
    ),
    "null last": ('{"type":"subscribe","streams":["a"],"last":null}', subscribe("a")),
    "last, and a resume with nothing": (
        '{"type":"subscribe","streams":["a"],"last":1,"resume":{}}',
        subscribe("a", last=1),
    ),
    "since": (
        '{"type":"subscribe","streams":["a"],"since":"2025-12-26T12:34:56.789Z"}',
        subscribe("a", since_ms=NOON),
    ),
    "since, between milliseconds": (
        '{"type":"subscribe","streams":["a"],"since":"2025-12-26T12:34:56.789999Z"}',
        subscribe("a", since_ms=NOON),
    ),
    "since, elsewhere": (
        '{"type":"subscribe","streams":["a"],"since":"2025-12-26T14:04:56.789+01:30"}',
        subscribe("a", since_ms=NOON),
    ),
    "since, without fraction and in lower case": (
        '{"type":"subscribe","streams":["a"],"since":"1970-01-01t00:00:01z"}',
        subscribe("a", since_ms=1000),
    ),
    "since before the epoch": (
        '{"type":"subscribe","streams":["a"],"since":"1969-12-31T23:59:59Z"}',
        subscribe("a", since_ms=0),
    ),
    "since before all time": (
        '{"type":"subscribe","streams":["a"],"since":"0001-01-01T00:00:00+23:59"}',
        subscribe("a", since_ms=0),
    ),
    "max_rate": (
        '{"type":"subscribe","streams":["a"],"max_rate":0.5}',
        subscribe("a", max_rate=0.5),
    ),
    "max_rate, whole": (
        '{"type":"subscribe","streams":["a"],"max_rate":100}',
        subscribe("a", max_rate=100.0),
    ),
    "null max_rate": ('{"type":"subscribe","streams":["a"],"max_rate":null}', subscribe("a")),
    "null since": ('{"type":"subscribe","streams":["a"],"since":null}', subscribe("a")),
    "skip": ('{"type":"subscribe","streams":["a"],"on_lag":"skip"}', subscribe("a")),
    "on_lag is null": ('{"type":"subscribe","streams":["a"],"on_lag":null}', subscribe("a")),
    "latest": (
        '{"type":"subscribe","streams":["a"],"on_lag":"latest"}',
        subscribe("a", on_lag=OnLag.LATEST),
    ),
    "disconnect": (
        '{"type":"subscribe","streams":["a"],"on_lag":"disconnect"}',
        subscribe("a", on_lag=OnLag.DISCONNECT),
    ),
    "snapshot": (
        '{"type":"subscribe","streams":["a"],"snapshot":true,"resume":{"a":"7f-1"}}',
        subscribe("a", resume={"a": "7f-1"}, snapshot=True),
    ),
    "no snapshot": (
        '{"type":"subscribe","streams":["a"],"snapshot":false,"last":1}',
        subscribe("a", last=1),
    ),
    "snapshot is null": ('{"type":"subscribe","streams":["a"],"snapshot":null}', subscribe("a")),
    "unsubscribe": ('{"type":"unsubscribe","streams":["a"]}', Unsubscribe(("a",))),
    "unsubscribe twice": ('{"type":"unsubscribe","streams":["a","a"]}', Unsubscribe(("a",))),
    "ping": ('{"type":"ping"}', Ping()),
    "ping for the worker": ('{"type":"ping","worker":true}', Ping(worker=True)),
    "another `worker` is ignored": ('{"type":"ping","worker":1}', Ping()),
    "auth": ('{"type":"auth","token":"a.b.c"}', Renew("a.b.c")),
    "longest token": (
        '{"type":"auth","token":"%s"}' % ("x" * MAX_TOKEN_BYTES),
        Renew("x" * MAX_TOKEN_BYTES),
    ),
    "other order": ('{"streams":["a"],"type":"unsubscribe"}', Unsubscribe(("a",))),
    "white space around it": (' \n{"type":"ping"}\r\n\t', Ping()),
    "escapes": ('{"\\u0074ype":"pin\\u0067"}', Ping()),
    "duplicate keys: the last counts": ('{"type":"subscribe","type":"ping"}', Ping()),
}


@pytest.mark.parametrize(("text", "message"), PARSED.values(), ids=PARSED.keys())
def test_message_is_parsed(text: str, message: ClientMessage) -> None:
    assert parse(text.encode()) == message


@pytest.mark.parametrize(("text", "message"), PARSED.values(), ids=PARSED.keys())
def test_unknown_fields_are_ignored(text: str, message: ClientMessage) -> None:
    begin, brace, rest = text.partition("{")
    more = begin + brace + '"id":7,"client":{"os":"iOS"},"until":"2025","payload":null,' + rest

    assert parse(more.encode()) == message


def test_maximum_number_of_streams_is_accepted() -> None:
    names = [f"stream-{number}" for number in range(MAX_STREAMS)]
    message = parse(orjson.dumps({"type": "unsubscribe", "streams": names}))

    assert message == Unsubscribe(tuple(names))


def test_documented_client_messages_are_parsed() -> None:
    section = PROTOCOL_PAGE.partition("## Client to server")[2].partition("\n## ")[0]
    examples = re.findall(r'`(\{"type".*?\})`', section)

    assert {type(parse(example.encode())) for example in examples} == {
        Subscribe,
        Unsubscribe,
        Ping,
        Renew,
    }


def bad(**fields: object) -> str:
    return json.dumps({"type": "subscribe", "streams": ["a"], **fields})


STREAMS = f"`streams` must be a list of 1 to {MAX_STREAMS} stream names"
KEYS = '`keys` must have a list of strings for each stream: {"energy":["4711"]}'
RESUME = "`resume` must be an object of stream: id"
LAST = f"`last` must be an integer from 0 to {MAX_LAST}"
RATE = "`max_rate` must be from 0.01 to 100"
SINCE = "`since` must be an RFC 3339 time such as 2025-12-26T12:34:56Z"
EXCLUSIVE = "`resume`, `since` and `last` exclude each other"
ON_LAG = "`on_lag` must be skip, latest or disconnect"
TOKEN = f"`token` must be a string of at most {MAX_TOKEN_BYTES} characters"
SNAPSHOT = "`snapshot` must be true or false"
BEGINNING = "`snapshot` excludes `since` and `last`"
TYPE = "`type` must be a string"
KNOWN = "; known are subscribe, unsubscribe, ping and auth"

BAD_MESSAGES: dict[str, tuple[str, ErrorCode, str | None]] = {
    "nothing": ("", BAD_JSON, None),
    "text": ("hello", BAD_JSON, None),
    "cut off": ('{"type":"ping"', BAD_JSON, None),
    "two messages": ('{"type":"ping"}{"type":"ping"}', BAD_JSON, None),
    "NaN": ('{"type":"ping","x":NaN}', BAD_JSON, None),
    "too deep": ("[" * 100_000, BAD_JSON, None),
    "array": ("[]", BAD_JSON, "a JSON list, not an object"),
    "string": ('"ping"', BAD_JSON, "a JSON str, not an object"),
    "number": ("1", BAD_JSON, "a JSON int, not an object"),
    "null": ("null", BAD_JSON, "a JSON NoneType, not an object"),
    "no type": ("{}", BAD_MESSAGE, TYPE),
    "null type": ('{"type":null}', BAD_MESSAGE, TYPE),
    "number as a type": ('{"type":1}', BAD_MESSAGE, TYPE),
    "list as a type": ('{"type":["ping"]}', BAD_MESSAGE, TYPE),
    "unknown type": ('{"type":"publish"}', UNKNOWN_TYPE, "'publish'" + KNOWN),
    "upper-case type": ('{"type":"PING"}', UNKNOWN_TYPE, "'PING'" + KNOWN),
    "empty type": ('{"type":""}', UNKNOWN_TYPE, "''" + KNOWN),
    "long type": ('{"type":"%s"}' % ("x" * 999), UNKNOWN_TYPE, f"'{'x' * 40}'" + KNOWN),
    "newline in the type": ('{"type":"a\\nb"}', UNKNOWN_TYPE, r"'a\nb'" + KNOWN),
    "no streams": ('{"type":"subscribe"}', BAD_MESSAGE, STREAMS),
    "unsubscribe without streams": ('{"type":"unsubscribe"}', BAD_MESSAGE, STREAMS),
    "empty streams": (bad(streams=[]), BAD_MESSAGE, STREAMS),
    "streams as text": (bad(streams="a"), BAD_MESSAGE, STREAMS),
    "streams as an object": (bad(streams={"a": 1}), BAD_MESSAGE, STREAMS),
    "null streams": (bad(streams=None), BAD_MESSAGE, STREAMS),
    "stream as a number": (bad(streams=["a", 1]), BAD_MESSAGE, STREAMS),
    "stream as null": (bad(streams=[None]), BAD_MESSAGE, STREAMS),
    "stream as a list": (bad(streams=[["a"]]), BAD_MESSAGE, STREAMS),
    "too many streams": (bad(streams=["a"] * (MAX_STREAMS + 1)), BAD_MESSAGE, STREAMS),
    "keys as text": (bad(keys="4711"), BAD_MESSAGE, KEYS),
    "keys as a list": (bad(keys=["4711"]), BAD_MESSAGE, KEYS),
    "keys of a stream as text": (bad(keys={"a": "4711,4712"}), BAD_MESSAGE, KEYS),
    "keys as numbers": (bad(keys={"a": [4711]}), BAD_MESSAGE, KEYS),
    "no keys": (bad(keys={"a": []}), BAD_MESSAGE, KEYS),
    "keys as null": (bad(keys={"a": None}), BAD_MESSAGE, KEYS),
    "resume as text": (bad(resume=ID), BAD_MESSAGE, RESUME),
    "resume as a list": (bad(resume=[ID]), BAD_MESSAGE, RESUME),
    "resume as false": (bad(resume=False), BAD_MESSAGE, RESUME),
    "resume as zero": (bad(resume=0), BAD_MESSAGE, RESUME),
    "id as a number": (bad(resume={"a": 17}), BAD_MESSAGE, RESUME),
    "id as null": (bad(resume={"a": None}), BAD_MESSAGE, RESUME),
    "id as a list": (bad(resume={"a": [1]}), BAD_MESSAGE, RESUME),
    "resume of another stream": (
        bad(resume={"b": ID}),
        BAD_MESSAGE,
        "`resume` names 'b', which `streams` does not",
    ),
    "resume of another stream with a long name": (
        bad(resume={"b" * 999: ID}),
        BAD_MESSAGE,
        f"`resume` names '{'b' * 64}', which `streams` does not",
    ),
    "max_rate as text": (bad(max_rate="1"), BAD_MESSAGE, RATE),
    "max_rate as true": (bad(max_rate=True), BAD_MESSAGE, RATE),
    "max_rate of nothing": (bad(max_rate=0), BAD_MESSAGE, RATE),
    "max_rate too low": (bad(max_rate=0.009), BAD_MESSAGE, RATE),
    "max_rate too high": (bad(max_rate=100.1), BAD_MESSAGE, RATE),
    "last as text": (bad(last="10"), BAD_MESSAGE, LAST),
    "last as a float": (bad(last=1.0), BAD_MESSAGE, LAST),
    "last as true": (bad(last=True), BAD_MESSAGE, LAST),
    "last as a list": (bad(last=[1]), BAD_MESSAGE, LAST),
    "negative last": (bad(last=-1), BAD_MESSAGE, LAST),
    "last too large": (bad(last=MAX_LAST + 1), BAD_MESSAGE, LAST),
    "last beyond 64 bits": (bad(last=2**64), BAD_MESSAGE, LAST),
    "resume and last": (
        bad(resume={"a": ID}, last=1),
        BAD_MESSAGE,
        EXCLUSIVE,
    ),
    "resume and last zero": (
        bad(resume={"a": ID}, last=0),
        BAD_MESSAGE,
        EXCLUSIVE,
    ),
    "since as a number": (bad(since=1_766_752_496), BAD_MESSAGE, SINCE),
    "since without a zone": (bad(since="2025-12-26T12:34:56"), BAD_MESSAGE, SINCE),
    "since as a date": (bad(since="2025-12-26"), BAD_MESSAGE, SINCE),
    "since as a week": (bad(since="2025-W52-5T12:34:56Z"), BAD_MESSAGE, SINCE),
    "since on an impossible date": (bad(since="2025-02-30T12:34:56Z"), BAD_MESSAGE, SINCE),
    "since in arabic digits": (bad(since="٢٠٢٥-12-26T12:34:56Z"), BAD_MESSAGE, SINCE),
    "since with an impossible zone": (bad(since="2025-12-26T12:34:56+24:00"), BAD_MESSAGE, SINCE),
    "empty since": (bad(since=""), BAD_MESSAGE, SINCE),
    "resume and since": (
        bad(resume={"a": ID}, since="2025-12-26T12:34:56Z"),
        BAD_MESSAGE,
        EXCLUSIVE,
    ),
    "last and since": (bad(last=1, since="2025-12-26T12:34:56Z"), BAD_MESSAGE, EXCLUSIVE),
    "unknown on_lag": (bad(on_lag="drop"), BAD_MESSAGE, ON_LAG),
    "upper-case on_lag": (bad(on_lag="SKIP"), BAD_MESSAGE, ON_LAG),
    "on_lag as a number": (bad(on_lag=1), BAD_MESSAGE, ON_LAG),
    "on_lag as a list": (bad(on_lag=["skip"]), BAD_MESSAGE, ON_LAG),
    "on_lag as an object": (bad(on_lag={}), BAD_MESSAGE, ON_LAG),
    "snapshot as a number": (bad(snapshot=1), BAD_MESSAGE, SNAPSHOT),
    "snapshot as text": (bad(snapshot="true"), BAD_MESSAGE, SNAPSHOT),
    "snapshot and last": (bad(snapshot=True, last=0), BAD_MESSAGE, BEGINNING),
    "snapshot and since": (
        bad(snapshot=True, since="2025-12-26T12:34:56Z"),
        BAD_MESSAGE,
        BEGINNING,
    ),
    "no token": ('{"type":"auth"}', BAD_MESSAGE, TOKEN),
    "empty token": ('{"type":"auth","token":""}', BAD_MESSAGE, TOKEN),
    "token as a number": ('{"type":"auth","token":1}', BAD_MESSAGE, TOKEN),
    "token as a list": ('{"type":"auth","token":["a.b.c"]}', BAD_MESSAGE, TOKEN),
    "token too long": (
        '{"type":"auth","token":"%s"}' % ("x" * (MAX_TOKEN_BYTES + 1)),
        BAD_MESSAGE,
        TOKEN,
    ),
}


@pytest.mark.parametrize(
    ("text", "error", "detail"), BAD_MESSAGES.values(), ids=BAD_MESSAGES.keys()
)
def test_bad_message_gets_an_error_with_the_reason(
    text: str, error: ErrorCode, detail: str | None
) -> None:
    with pytest.raises(BadClientMessage) as refused:
        parse(text.encode())

    assert refused.value.error is error
    assert refused.value.detail == (refused.value.detail if detail is None else detail)
    assert str(refused.value) == refused.value.detail


def test_error_without_a_detail_has_the_message_of_its_code() -> None:
    assert str(BadClientMessage(RATE_LIMITED)) == RATE_LIMITED.message


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["energy", "a", ""]) | st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)
kinds = st.sampled_from(["subscribe", "unsubscribe", "ping", "auth"])
near_messages = st.fixed_dictionaries(
    {"type": kinds | values},
    optional={
        "streams": st.lists(st.sampled_from(["energy", "a"]), max_size=3) | values,
        "resume": st.dictionaries(st.sampled_from(["energy", "a"]), st.text()) | values,
        "last": st.integers(-2, MAX_LAST + 2) | values,
        "on_lag": st.sampled_from([each.value for each in OnLag]) | values,
        "max_rate": st.floats(0.01, 100) | st.integers(1, 100) | values,
        "token": st.text(max_size=20) | values,
    },
)


def check_error(error: BadClientMessage) -> None:
    assert error.error in (BAD_JSON, BAD_MESSAGE, UNKNOWN_TYPE)
    assert len(messages.error(error.error, error.detail)) < 1000


def parsed_or_refused(read: Callable[[], ClientMessage | None]) -> None:
    """Any input becomes a valid message or a short error."""
    try:
        message = read()
    except BadClientMessage as error:
        check_error(error)
        return
    if isinstance(message, Subscribe):
        assert message.resume.keys() <= set(message.streams)
        assert all(type(text) is str for text in message.resume.values())
        assert message.last is None or (0 <= message.last <= MAX_LAST and not message.resume)
        assert isinstance(message.on_lag, OnLag)
    if isinstance(message, Subscribe | Unsubscribe):
        assert 1 <= len(message.streams) == len(set(message.streams)) <= MAX_STREAMS
        assert all(type(name) is str for name in message.streams)
    if isinstance(message, Renew):
        assert 1 <= len(message.token) <= MAX_TOKEN_BYTES


@given(
    st.binary(max_size=100)
    | st.text(max_size=100).map(str.encode)
    | values.map(lambda value: json.dumps(value).encode())
)
def test_arbitrary_bytes_are_parsed_or_refused(payload: bytes) -> None:
    parsed_or_refused(lambda: parse(payload))


@given(near_messages)
def test_messages_with_arbitrary_fields_are_parsed_or_refused(message: dict[str, Any]) -> None:
    parsed_or_refused(lambda: parse(json.dumps(message).encode()))


def test_repr_hides_the_token() -> None:
    message = parse(b'{"type":"auth","token":"canary"}')

    assert "canary" not in repr(message)
    assert "canary" not in str(message)


def test_errors_hide_the_token() -> None:
    with pytest.raises(BadClientMessage) as refused:
        parse(orjson.dumps({"type": "auth", "token": "canary" * MAX_TOKEN_BYTES}))

    assert "canary" not in str(refused.value)


QUERIES: dict[str, tuple[str, Subscribe | None]] = {
    "nothing": ("", None),
    "token only": ("token=a.b.c", None),
    "resume without subscribe": (f"resume={ID}&last=1", None),
    "subscribe to nothing": ("subscribe=", None),
    "subscribe to commas": ("subscribe=,,", None),
    "subscribe": ("subscribe=energy", subscribe("energy")),
    "beside a token": ("token=a.b.c&subscribe=energy", subscribe("energy")),
    "two separated by a comma": ("subscribe=a,b", subscribe("a", "b")),
    "two parameters": ("subscribe=a&subscribe=b", subscribe("a", "b")),
    "one stream twice": ("subscribe=a,b,a", subscribe("a", "b")),
    "escaped": ("subscribe=en%65rgy%2Cw%C3%A4rme", subscribe("energy", "wärme")),
    "resume": (f"subscribe=energy&resume={ID}", subscribe("energy", resume={"energy": ID})),
    "resume before subscribe": (
        f"resume={ID}&subscribe=energy",
        subscribe("energy", resume={"energy": ID}),
    ),
    "resume of a named stream": (
        f"subscribe=energy&resume=energy:{ID}",
        subscribe("energy", resume={"energy": ID}),
    ),
    "empty resume": ("subscribe=a&resume=", subscribe("a", resume={"a": ""})),
    "resume of both": (
        "subscribe=a,b&resume=a:7f-1&resume=b:7f-2",
        subscribe("a", "b", resume={"a": "7f-1", "b": "7f-2"}),
    ),
    "resume of a stream with a colon": (
        "subscribe=a:b&resume=a:b:7f-1",
        subscribe("a:b", resume={"a:b": "7f-1"}),
    ),
    "last": ("subscribe=a&last=10", subscribe("a", last=10)),
    "last with zeros": ("subscribe=a&last=0010", subscribe("a", last=10)),
    "last twice: the last counts": ("subscribe=a&last=1&last=2", subscribe("a", last=2)),
    "since": ("subscribe=a&since=2025-12-26T12:34:56.789Z", subscribe("a", since_ms=NOON)),
    "since, with an unescaped plus": (
        "subscribe=a&since=2025-12-26T14:04:56.789+01:30",
        subscribe("a", since_ms=NOON),
    ),
    "since, with an escaped plus": (
        "subscribe=a&since=2025-12-26T14:04:56.789%2B01:30",
        subscribe("a", since_ms=NOON),
    ),
    "since, west": (
        "subscribe=a&since=2025-12-26T10:34:56.789-02:00",
        subscribe("a", since_ms=NOON),
    ),
    "since, with spaces for the T and the plus": (
        "subscribe=a&since=2025-12-26%2014:04:56.789+01:30",
        subscribe("a", since_ms=NOON),
    ),
    "max_rate": ("subscribe=a&max_rate=0.50", subscribe("a", max_rate=0.5)),
    "latest": ("subscribe=a&on_lag=latest", subscribe("a", on_lag=OnLag.LATEST)),
    "snapshot": ("subscribe=a&snapshot=1", subscribe("a", snapshot=True)),
    "snapshot in a word": ("subscribe=a&snapshot=true", subscribe("a", snapshot=True)),
    "no snapshot": ("subscribe=a&snapshot=0", subscribe("a")),
    "unknown parameters": ("subscribe=a&v=2&&x&=", subscribe("a")),
}


@pytest.mark.parametrize(("query", "message"), QUERIES.values(), ids=QUERIES.keys())
def test_query_is_parsed(query: str, message: Subscribe | None) -> None:
    assert parse_query(query) == message


BAD_QUERIES = {
    "last as text": ("subscribe=a&last=ten", LAST),
    "max_rate as text": ("subscribe=a&max_rate=often", RATE),
    "max_rate that is no number": ("subscribe=a&max_rate=nan", RATE),
    "max_rate in scientific notation": ("subscribe=a&max_rate=1e1", RATE),
    "empty last": ("subscribe=a&last=", LAST),
    "negative last": ("subscribe=a&last=-1", LAST),
    "last as a float": ("subscribe=a&last=1.5", LAST),
    "last too large": (f"subscribe=a&last={MAX_LAST + 1}", LAST),
    "last of 5000 digits": (f"subscribe=a&last={'1' * 5000}", LAST),
    "last in arabic digits": (f"subscribe=a&last={quote('١٢')}", LAST),
    "last as a superscript": (f"subscribe=a&last={quote('²')}", LAST),
    "last with a sign": ("subscribe=a&last=%2B1", LAST),
    "last with an underscore": ("subscribe=a&last=1_0", LAST),
    "since without a zone, with a space": ("subscribe=a&since=2025-12-26+12:34:56", SINCE),
    "since without seconds, with a space": ("subscribe=a&since=2025-12-26+12:34", SINCE),
    "since with two spaces": ("subscribe=a&since=2025-12-26T12:34:56++01:00", SINCE),
    "empty since": ("subscribe=a&since=", SINCE),
    "unknown on_lag": ("subscribe=a&on_lag=drop", ON_LAG),
    "empty on_lag": ("subscribe=a&on_lag=", ON_LAG),
    "snapshot in another word": ("subscribe=a&snapshot=yes", SNAPSHOT),
    "snapshot and last": ("subscribe=a&snapshot=1&last=1", BEGINNING),
    "resume and last": (
        f"subscribe=a&resume={ID}&last=1",
        EXCLUSIVE,
    ),
    "resume of another stream": (
        f"subscribe=a&resume=b:{ID}",
        "`resume` names 'b', which `streams` does not",
    ),
    "resume without its stream": (
        f"subscribe=a,b&resume={ID}",
        "`resume` must be `stream:id` where streams are several",
    ),
    "too many fields": (
        "subscribe=a" + "&b=c" * MAX_QUERY_FIELDS,
        f"a query may have {MAX_QUERY_FIELDS} fields",
    ),
    "too many streams": (f"subscribe={','.join(map(str, range(MAX_STREAMS + 1)))}", STREAMS),
}


@pytest.mark.parametrize(("query", "detail"), BAD_QUERIES.values(), ids=BAD_QUERIES.keys())
def test_bad_query_gets_an_error_with_the_reason(query: str, detail: str) -> None:
    with pytest.raises(BadClientMessage) as refused:
        parse_query(query)

    assert refused.value.error is BAD_MESSAGE
    assert refused.value.detail == detail


@given(
    st.text(max_size=60)
    | st.lists(
        st.tuples(
            st.sampled_from(["subscribe", "resume", "last", "on_lag", "token"]),
            st.text("a:,-1&=%", max_size=6) | st.text(max_size=6),
        ),
        max_size=5,
    ).map(urlencode)
)
def test_arbitrary_queries_are_parsed_or_refused(query: str) -> None:
    parsed_or_refused(lambda: parse_query(query))


@given(
    st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=3, unique=True),
    st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"]), max_size=10),
    st.sampled_from(OnLag),
)
def test_query_and_message_are_equivalent(streams: list[str], text: str, on_lag: OnLag) -> None:
    query = [("subscribe", ",".join(streams)), ("on_lag", on_lag.value)]
    query += [("resume", f"{name}:{text}") for name in streams]
    message = {
        "type": "subscribe",
        "streams": streams,
        "on_lag": on_lag.value,
        "resume": dict.fromkeys(streams, text),
    }

    assert parse_query(urlencode(query)) == parse(orjson.dumps(message))


REPLIES: dict[str, tuple[bytes, str]] = {
    "pong of a worker": (
        messages.pong(NOON, {"slot": 1, "pid": 7}),
        '{"type":"pong","timestamp":"2025-12-26T12:34:56.789Z","worker":{"slot":1,"pid":7}}',
    ),
    "pong": (messages.pong(NOON), '{"type":"pong","timestamp":"2025-12-26T12:34:56.789Z"}'),
    "error": (
        messages.error(UNAUTHORIZED),
        '{"type":"error","message":"Invalid token","code":"UNAUTHORIZED"}',
    ),
    "error with a detail": (
        messages.error(BAD_MESSAGE, "`last` must be small"),
        (
            '{"type":"error","message":"The message has a wrong field: `last` must be small",'
            '"code":"BAD_MESSAGE"}'
        ),
    ),
    "notice": (
        messages.error(STREAM_UNAVAILABLE),
        (
            '{"type":"notice",'
            '"message":"The topic cannot be read yet: the subscription waits for it",'
            '"code":"STREAM_UNAVAILABLE"}'
        ),
    ),
    "unsubscribed": (
        messages.unsubscribed(["energy", "water"]),
        '{"type":"unsubscribed","streams":["energy","water"]}',
    ),
    "authenticated": (
        messages.authenticated(NOON),
        '{"type":"authenticated","expires":"2025-12-26T12:34:56.789Z"}',
    ),
    "reconnect": (messages.reconnect(730), '{"type":"reconnect","after_ms":730}'),
    "subscribed": (
        messages.subscribed({"energy": Subscribed("7f-1.2")}),
        '{"type":"subscribed","streams":["energy"],"positions":{"energy":{"position":"7f-1.2"}}}',
    ),
    "subscribed, recovered": (
        messages.subscribed({"energy": Subscribed("7f-1.2", True, 12)}),
        (
            '{"type":"subscribed","streams":["energy"],"positions":{"energy":'
            '{"position":"7f-1.2","recovered":true,"replayed":12}}}'
        ),
    ),
    "subscribed, not recovered": (
        messages.subscribed(
            {"energy": Subscribed("7f-1", False, 0, Unrecovered.HISTORY_EXCEEDED, "7f-9", (8,))}
        ),
        (
            '{"type":"subscribed","streams":["energy"],"positions":{"energy":'
            '{"position":"7f-1","recovered":false,"replayed":0,'
            '"reason":"HISTORY_EXCEEDED","earliest":"7f-9","missing":[8]}}}'
        ),
    ),
    "subscribed to some keys, from the log": (
        messages.subscribed({"energy": Subscribed("7f-1", True, None)}),
        (
            '{"type":"subscribed","streams":["energy"],"positions":{"energy":'
            '{"position":"7f-1","recovered":true,"replayed":null}}}'
        ),
    ),
    "position, conflated": (
        messages.position("energy", "7f-1.2", 12),
        '{"type":"position","stream":"energy","id":"7f-1.2","conflated":12}',
    ),
    "position, at the end of a snapshot": (
        messages.position("energy", "7f-1.2", had=SnapshotTold(False, NOON, 2)),
        (
            '{"type":"position","stream":"energy","id":"7f-1.2","snapshot":{"position":"7f-1.2",'
            '"complete":false,"since":"2025-12-26T12:34:56.789Z","keys":2}}'
        ),
    ),
    "position": (
        messages.position("energy", "7f-1.2"),
        '{"type":"position","stream":"energy","id":"7f-1.2"}',
    ),
    "subscribed, with a snapshot": (
        messages.subscribed({"energy": Subscribed("7f-1", snapshot=SnapshotTold(True, None, 2))}),
        (
            '{"type":"subscribed","streams":["energy"],"positions":{"energy":{"position":"7f-1"}},'
            '"snapshots":{"energy":{"position":"7f-1","complete":true,"since":null,"keys":2}}}'
        ),
    ),
    "subscribed, with a part of a snapshot": (
        messages.subscribed(
            {"energy": Subscribed("7f-1", snapshot=SnapshotTold(False, NOON, None))}
        ),
        (
            '{"type":"subscribed","streams":["energy"],"positions":{"energy":{"position":"7f-1"}},'
            '"snapshots":{"energy":{"position":"7f-1","complete":false,'
            '"since":"2025-12-26T12:34:56.789Z","keys":null}}}'
        ),
    ),
    "subscribed to several": (
        messages.subscribed({"b": Subscribed("7f-2"), "a": Subscribed("7f-1", True)}),
        (
            '{"type":"subscribed","streams":["b","a"],"positions":{"b":{"position":"7f-2"},'
            '"a":{"position":"7f-1","recovered":true,"replayed":0}}}'
        ),
    ),
}


@pytest.mark.parametrize(("reply", "expected"), REPLIES.values(), ids=REPLIES.keys())
def test_reply_is_encoded_exactly(reply: bytes, expected: str) -> None:
    assert reply == frame.encode(frame.TEXT, expected.encode())


def test_refusal_has_the_error_message_as_its_body() -> None:
    body = messages.error_body(UNAUTHORIZED, "expired")

    assert frame.encode(frame.TEXT, body) == messages.error(UNAUTHORIZED, "expired")


def test_body_of_a_refusal_is_an_error_even_if_the_code_is_a_notice() -> None:
    assert orjson.loads(messages.error_body(SHUTTING_DOWN))["type"] == "error"


@pytest.mark.parametrize("on_lag", OnLag, ids=lambda on_lag: on_lag.value)
def test_on_lag_is_documented(on_lag: OnLag) -> None:
    (row,) = [line for line in PROTOCOL_PAGE.splitlines() if line.startswith("| `on_lag` |")]

    assert f"`{on_lag.value}`" in row
