"""Where keys are."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol.keys import MAX_KEY_BYTES, escaped
from energyws.stream.record_key import KeyRule


class Message:
    def __init__(self, key: bytes | None, *headers: tuple[str, bytes | None]) -> None:
        self._key = key
        self._headers = list(headers) or None

    def key(self) -> bytes | None:
        return self._key

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self._headers


class Undecodable(Message):
    def headers(self) -> list[tuple[str, bytes | None]] | None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


def outside(text: str, message: Message) -> bytes | None:
    rule = KeyRule(text)
    assert rule.outside
    return rule.key(rule.raw(message), {})


def inside(pointer: str, value: object) -> bytes | None:
    rule = KeyRule(pointer)
    assert not rule.outside
    return rule.key(None, {"a": value} if pointer.startswith("/a") else value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b"m7", b"m7"),
        ('ä"\n'.encode(), 'ä\\"\\n'.encode()),
        (b"x" * MAX_KEY_BYTES, b"x" * MAX_KEY_BYTES),
        (b"\x01" * MAX_KEY_BYTES, b"\\u0001" * MAX_KEY_BYTES),
        (b"x" * (MAX_KEY_BYTES + 1), None),
        (b"", None),
        (b"\xff", None),
        (b"\xed\xa0\x80", None),
        (None, None),
    ],
)
def test_key_outside_the_value_is_text(raw: bytes | None, key: bytes | None) -> None:
    assert outside("record", Message(raw)) == key
    assert outside("header:meter", Message(b"other", ("meter", raw))) == key


def test_last_header_of_the_name_counts() -> None:
    twice = Message(b"r", ("meter", b"1"), ("other", b"2"), ("meter", b"3"), ("Meter", b"4"))
    assert outside("header:meter", twice) == b"3"
    assert outside("header:meter", Message(b"r", ("meter", b"1"), ("meter", None))) is None
    assert outside("header:meter", Message(b"r")) is None
    assert outside("header:meter", Undecodable(b"r")) is None
    # The rest is its name, whatever it is.
    assert outside("header:a:/ b", Message(None, ("a:/ b", b"1"))) == b"1"


@pytest.mark.parametrize(
    ("pointer", "value", "key"),
    [
        ("/a", "m7", b"m7"),
        ("/a", 735999000000000001, b"735999000000000001"),
        ("/a", -1, b"-1"),
        ("/a", 0, b"0"),
        ("/a", "", None),
        ("/a", "x" * (MAX_KEY_BYTES + 1), None),
        *[("/a", value, None) for value in (True, False, None, 1.5, 1e300, {}, [], ["m7"])],
        ("/a/b/c", {"b": {"c": "m7"}}, b"m7"),
        ("/a/b", "m7", None),
        ("/a/b", {"c": "m7"}, None),
        ("/a/1", ["x", "m7"], b"m7"),
        *[(f"/a/{token}", ["x", "m7"], None) for token in ("2", "01", "-", "-1", "+1", "1 ", "١")],
        ("/a/01", {"01": "m7"}, b"m7"),
        ("/a/~0~1", {"~/": "m7"}, b"m7"),
        # RFC 6901 section 4: first ~1, then ~0.
        ("/a/~01", {"~1": "m7"}, b"m7"),
        ("/a/", {"": "m7"}, b"m7"),
        ("/", {"": "m7"}, b"m7"),
        ("/é", {"é": "m7"}, b"m7"),
    ],
)
def test_pointer_finds_a_string_or_an_integer(
    pointer: str, value: object, key: bytes | None
) -> None:
    assert inside(pointer, value) == key


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_every_place_in_objects_has_a_pointer(names: list[str]) -> None:
    value: Any = "m7"
    for name in reversed(names):
        value = {name: value}
    pointer = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
    assert KeyRule(pointer).key(None, value) == b"m7"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_a_key_is_the_same_wherever_it_stands(key: str) -> None:
    found = {
        outside("record", Message(key.encode())),
        outside("header:meter", Message(None, ("meter", key.encode()))),
        KeyRule("/m").key(None, orjson.loads(orjson.dumps({"m": key}))),
    }
    try:
        assert found == {escaped(key)}
    except ValueError:
        assert found == {None}


def test_no_object_has_no_key() -> None:
    assert KeyRule("/a").key(None, None) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no place"),
        ("Record", "is no place"),
        ("a/b", "is no place"),
        ("header", "is no place"),
        ("header:", "names no header"),
        ("/a~b", "is no JSON pointer"),
        ("/a~2", "is no JSON pointer"),
        ("/a~", "is no JSON pointer"),
    ],
)
def test_text_that_names_no_place_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        KeyRule(text)
