from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from energyws.settings import Stream
from energyws.stream.record import REASONS, BadRecord, Decoded, Decoder, Reason, decode

LIMIT = 6000
BOM = "\ufeff".encode()

spaces = st.text(" \t\r\n", max_size=3).map(str.encode)
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(st.text(), values, max_size=4)

GOOD = {
    "empty object": b"{}",
    "inner white space": b'{ "a" :\r\n\t1 }',
    "integer of 30 digits": b'{"n":123456789012345678901234567890}',
    "float with a trailing zero": b'{"p":1.10}',
    "exponent": b'{"p":1E+2}',
    "minus zero": b'{"p":-0}',
    "raw unicode": '{"é":"日本 😀"}'.encode(),
    "escaped unicode": b'{"\\u00e9":"\\ud83d\\ude00"}',
    "duplicate keys": b'{"a":1,"a":2}',
    "escaped slash": b'{"a":"\\/"}',
    "delete character": b'{"a":"\x7f"}',
    "emoji cut in two": b'{"name":"kitchen \\ud83d","w":1}',
    "low surrogate alone": b'{"a":"\\udc00"}',
    "surrogates in the wrong order": b'{"a":"\\uDE00\\ud83d"}',
    "surrogate before an escape": b'{"a":"\\ud83d\\n"}',
    "surrogate in a key": b'{"\\ud800":1}',
    "number beyond a double": b'{"a":1e400}',
    "negative number beyond a double": b'{"a":-1E+999,"b":[2]}',
    "integer of 400 digits": b'{"a":%b}' % (b"9" * 400),
    "integer of 5,000 digits": b'{"a":-%b.5e300}' % (b"1" * 5000),
    "product beyond a double": b'{"a":%be99}' % (b"9" * 250),
    "all of these": b'{"a":1e400,"b":"\\udc00\\u12e4567","c":%b,"d":"\\\\u"}' % (b"7" * 500),
    "nested": b'{"a":' * 100 + b"1" + b"}" * 100,
}

BAD: dict[str, tuple[bytes | None, Reason]] = {
    "no value": (None, "tombstone"),
    "no bytes": (b"", "empty"),
    "white space": (b" \t\r\n", "empty"),
    "over the limit": (b'{"a":"' + b"x" * LIMIT + b'"}', "oversized"),
    "over the limit, white space only": (b" " * (LIMIT + 1), "oversized"),
    "text": (b"hello", "not_json"),
    "cut off": (b'{"a":1', "not_json"),
    "two objects": (b"{}{}", "not_json"),
    "trailing comma": (b'{"a":1,}', "not_json"),
    "single quotes": (b"{'a':1}", "not_json"),
    "comment": (b'{"a":1}//', "not_json"),
    "leading zero": (b'{"a":01}', "not_json"),
    "NaN": (b'{"a":NaN}', "not_json"),
    "number beyond a double with a leading zero": (b'{"a":01e400}', "not_json"),
    "zeros": (b'{"a":%b}' % (b"0" * 400), "not_json"),
    "long integer with a leading zero": (b'{"a":0%b}' % (b"9" * 400), "not_json"),
    "fraction without digits": (b'{"a":1e400,"b":1.}', "not_json"),
    "number beyond a double, then cut off": (b'{"a":1e400', "not_json"),
    "number beyond a double in an array": (b"[1e400]", "not_an_object"),
    "zero byte behind": (b"{}\x00", "not_json"),
    "form feed around": (b"\x0c{}", "not_json"),
    "byte order mark": (BOM + b"{}", "not_json"),
    "UTF-16": ("{}".encode("utf-16-le"), "not_json"),
    "latin-1": (b'{"a":"\xe9"}', "not_json"),
    "cut UTF-8": (b'{"a":"\xe2\x82"}', "not_json"),
    "overlong UTF-8": (b'{"a":"\xc0\xaf"}', "not_json"),
    "UTF-8 surrogate": (b'{"a":"\xed\xa0\x80"}', "not_json"),
    "surrogate alone, then cut off": (b'{"a":"\\ud800"', "not_json"),
    "surrogate alone, then half an escape": (b'{"a":"\\ud800\\u12"}', "not_json"),
    "surrogate alone, then an unknown escape": (b'{"a":"\\ud800\\x"}', "not_json"),
    "escaped backslash, then an unknown escape": (b'{"a":"\\ud800","b":"\\\\\\q"}', "not_json"),
    "surrogate alone, then a quote inside": (b'{"a":"\\ud800"b"}', "not_json"),
    "surrogate alone, then a control character": (b'{"a":"\\ud800\x01"}', "not_json"),
    "surrogate alone outside a string": (b'{"a":\\ud800}', "not_json"),
    "surrogate alone, then broken UTF-8": (b'{"a":"\\ud800\xff"}', "not_json"),
    "surrogate alone as text": (b'"\\ud800"', "not_an_object"),
    "newline in a string": (b'{"a":"\n"}', "not_json"),
    "never closed": (b'{"a":' * 200, "not_json"),
    "avro": (b"\x00\x00\x00\x00\x01\x02", "not_json"),
    "null": (b"null", "not_an_object"),
    "array": (b"[{}]", "not_an_object"),
    "string": (b'"{}"', "not_an_object"),
    "number": (b" 1 ", "not_an_object"),
    "boolean": (b"true", "not_an_object"),
}


@pytest.mark.parametrize("value", GOOD.values(), ids=GOOD.keys())
def test_object_passes_untouched(value: bytes) -> None:
    assert decode(value, max_bytes=LIMIT) == value


@pytest.mark.parametrize(("value", "reason"), BAD.values(), ids=BAD.keys())
def test_bad_record_has_a_reason(value: bytes | None, reason: Reason) -> None:
    with pytest.raises(BadRecord) as bad:
        decode(value, max_bytes=LIMIT)

    assert bad.value.reason == reason
    assert str(bad.value)


def test_endless_nesting_is_a_bad_record() -> None:
    deep = 100_000
    with pytest.raises(BadRecord) as bad:
        decode(b'{"a":' * deep + b"1" + b"}" * deep, max_bytes=10 * deep)

    assert bad.value.reason == "not_json"


def test_table_of_bad_records_has_every_reason() -> None:
    of_schemas = {"not_framed", "unknown_schema", "undecodable"}
    assert {reason for _, reason in BAD.values()} == {*REASONS} - of_schemas
    assert of_schemas < {*REASONS}


def test_value_with_a_schema_passes_as_its_reader_makes_it() -> None:
    assert decode(b"x", max_bytes=LIMIT, reader=lambda value: b'{"v":"%s"}' % value) == b'{"v":"x"}'
    for value, reader in ((b"x" * (LIMIT + 1), bytes), (b"x", lambda _: b"x" * (LIMIT + 1))):
        with pytest.raises(BadRecord, match=r"kafka\.max_record_bytes"):
            decode(value, max_bytes=LIMIT, reader=reader)
    with pytest.raises(BadRecord) as bad:
        decode(None, max_bytes=LIMIT, reader=bytes)
    assert bad.value.reason == "tombstone"


@given(objects, spaces, spaces, st.booleans())
def test_every_object_passes_without_surrounding_white_space(
    value: dict[str, Any], before: bytes, after: bytes, ascii_only: bool
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()

    assert decode(before + text + after, max_bytes=len(before + text + after)) == text


# Pieces of text that the parser cannot represent, or only just.
PIECES = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b'"',
        b" ",
        b"\n",
        b"\\",
        b"-",
        b"0",
        b"1",
        b".",
        b"e",
        b"E",
    ),
    *(b'{"a":', b'"b"', b"true", b"null", b"NaN", b"1e400", b"E+999", b"9" * 250, b"e99", b"0.5"),
    *(
        b"\\ud83d",
        b"\\udc00",
        b"\\u12e4",
        b"\\u1e",
        b"\\n",
        b'\\"',
        b"\\\\",
        b"567",
        b"\xc3\xa9",
        b"\xff",
    ),
]


def is_object(text: bytes) -> bool:
    """Whether the standard library, which represents the whole grammar, finds an object."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        value = json.loads(text.decode(), parse_constant=refuse, parse_int=str)
    except (ValueError, RecursionError):
        return False
    return type(value) is dict


@given(
    st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join)
    | st.lists(st.sampled_from(PIECES), max_size=6).map(
        lambda some: b'{"a":' + b"".join(some) + b"}"
    )
    | st.lists(st.sampled_from(PIECES), max_size=6).map(
        lambda some: b'{"a":"' + b"".join(some) + b'","b":1e400}'
    )
)
@example(b'{"a":"\\u1e4567\\ud83d"}')
@example(b'{"a":"\\\\ud83d\\ud83d"}')
def test_record_passes_exactly_if_the_grammar_allows_it(value: bytes) -> None:
    text = value.strip(b" \t\r\n")
    try:
        passed = decode(value, max_bytes=10_000)
    except BadRecord:
        assert not is_object(text)
    else:
        assert passed == text
        assert is_object(text)


@given(
    st.binary(max_size=200)
    | st.binary(max_size=20).map(lambda inner: b'{"a":"' + inner + b'"}')
    | st.text(max_size=20).map(lambda inner: f'{{"a":{inner}}}'.encode())
)
@example(b'{"a":"\\u0000"}')
def test_record_that_passes_is_an_object_in_utf8(value: bytes) -> None:
    try:
        text = decode(value, max_bytes=100)
    except BadRecord:
        return
    assert text in value
    assert text[:1] + text[-1:] == b"{}"
    assert is_object(text)


def test_record_of_exactly_the_limit_passes() -> None:
    value = b'{"a":1}'

    assert decode(value, max_bytes=len(value)) == value


def test_error_for_an_oversized_record_names_its_size_and_the_setting() -> None:
    with pytest.raises(BadRecord, match=r"^8 bytes, more than kafka\.max_record_bytes \(7\)$"):
        decode(b'{"a":1} ', max_bytes=7)


def decoder(key: str | None, access: str = "open") -> Decoder:
    return Decoder(Stream(topic="t", key=key, access=access), LIMIT)  # type: ignore[arg-type]


def test_stream_without_keys_gives_its_records_none() -> None:
    plain = decoder(None)
    assert (plain.keyed, plain.withholds) == (False, False)
    assert plain.decode(b' {"m":"m7"}', b"m7") == (b'{"m":"m7"}', None)
    with pytest.raises(BadRecord) as caught:
        plain.decode(None, b"m7")
    assert caught.value.reason == "tombstone"


@pytest.mark.parametrize(
    ("key", "value", "raw_key", "decoded"),
    [
        ("record", b' {"m":1}', b"m7", (b'{"m":1}', b"m7")),
        ("record", b"{}", None, (b"{}", None)),
        ("record", None, b"m7", (None, b"m7")),
        ("header:h", None, b"m7", (None, b"m7")),
        ("/m", b'{"m":"m7"}', None, (b'{"m":"m7"}', b"m7")),
        ("/m", b'{"m":"m7"}', b"m8", (b'{"m":"m7"}', b"m7")),
        ("/m", b'{"n":"m7"}', None, (b'{"n":"m7"}', None)),
        # As parsers of clients do, the last one counts.
        ("/m", b'{"m":"m7","m":"m8"}', None, (b'{"m":"m7","m":"m8"}', b"m8")),
        # The parser cannot represent it: it might take one key for another.
        ("/m", b'{"m":"m7","e":"\\ud83d"}', None, (b'{"m":"m7","e":"\\ud83d"}', None)),
        ("record", b'{"e":"\\ud83d"}', b"m7", (b'{"e":"\\ud83d"}', b"m7")),
    ],
)
def test_record_has_the_key_that_its_stream_takes(
    key: str, value: bytes | None, raw_key: bytes | None, decoded: Decoded
) -> None:
    assert decoder(key).decode(value, raw_key) == decoded


@pytest.mark.parametrize(
    ("key", "value", "raw_key", "reason"),
    [
        ("record", None, None, "tombstone"),
        ("record", None, b"", "tombstone"),
        ("/m", None, b"m7", "tombstone"),
        ("record", b"[]", b"m7", "not_an_object"),
        ("/m", b'["m7"]', None, "not_an_object"),
        ("record", b"", b"m7", "empty"),
    ],
)
def test_key_makes_no_bad_record_good(
    key: str, value: bytes | None, raw_key: bytes | None, reason: Reason
) -> None:
    with pytest.raises(BadRecord) as caught:
        decoder(key).decode(value, raw_key)
    assert caught.value.reason == reason


def test_only_where_access_is_keyed_are_records_withheld() -> None:
    assert not decoder("/m").withholds
    assert decoder("/m", "keyed").withholds


def test_key_is_found_in_what_a_reader_makes() -> None:
    def reader(value: bytes) -> bytes:
        return b'{"meter":"%b","lone":"x"}' % value

    assert decoder("/meter").decode(b"m1", None, reader)[1] == b"m1"
    assert decoder("record").decode(b"m1", b"k", reader) == (reader(b"m1"), b"k")
    assert decoder(None).decode(b"m1", None, reader) == (reader(b"m1"), None)
    assert decoder("/meter").decode(b"\\ud800", None, reader)[1] is None
    assert decoder("record").decode(None, b"k", reader) == (None, b"k")
