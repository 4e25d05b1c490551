"""Encoded frames that are kept."""

from __future__ import annotations

from energyws.protocol.forms import Form, Kept


def test_kept_frames_are_encoded_once_until_others_need_the_room() -> None:
    calls: list[bytes] = []

    def encode(frames: bytes) -> bytes:
        calls.append(frames)
        return frames.upper()

    kept = Kept(encode, 40)
    assert [kept(b"a" * 10), kept(b"a" * 10)] == [b"A" * 10] * 2
    assert calls == [b"a" * 10]
    kept(b"b" * 10)
    kept(b"c" * 10)
    kept(b"a" * 10)
    assert calls == [b"a" * 10, b"b" * 10, b"c" * 10, b"a" * 10]


def test_frames_that_are_too_large_are_not_kept() -> None:
    assert Kept(bytes.upper, 10)(b"abcdef") == b"ABCDEF"
    assert Kept(bytes.upper, 10, lambda frames: frames)(b"abcdef") == b"abcdef"


def test_only_lines_end() -> None:
    assert [form for form in Form if form.ends] == [Form.LINES]
