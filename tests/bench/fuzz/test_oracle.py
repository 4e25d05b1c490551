"""What another server makes of the same streams."""

from __future__ import annotations

import pytest

from bench.fuzz.oracle import explanation, headers, run
from bench.fuzz.session import End, Sessions

MASK = bytes(4)
PING = b"\x89\x81" + MASK + b"x"
TEXT = b"\x81\x81" + MASK + b"a"
CLOSE = b"\x88\x82" + MASK + b"\x03\xe9"


@pytest.mark.parametrize(
    ("stream", "end"),
    [
        (PING + TEXT, End(((10, b"x"), (1, b"a")), None)),
        (TEXT + CLOSE + TEXT, End(((1, b"a"),), 1001)),
        (b"\x01\x81" + MASK + b"\xc3" + PING + b"\x80\x81" + MASK + b"\xa9", None),
        (b"\x88\x80" + MASK, End((), 1000)),
        (TEXT + b"\x81\x81" + MASK + b"\xff" + PING, End(((1, b"a"),), 1007)),
        (PING + b"\x83\x80" + MASK + PING, End(((10, b"x"),), 1002)),
        (b"\x82\xfe\x03\xe9" + MASK, End((), 1009)),
        ((b"\x01\x80" + MASK) + (b"\x00\x80" + MASK) * 64, End((), 1009)),
        (TEXT[:-1], End((), None)),
    ],
)
def test_both_servers_agree(stream: bytes, end: End | None) -> None:
    end = end or End(((10, b"x"), (1, "é".encode())), None)
    assert Sessions().run(stream, [], deflate=False) == run(stream, deflate=False).end == end


def test_cuts_change_nothing() -> None:
    stream = PING + b"\x81\x85" + b"\x01\x02\x03\x04" + b"\x60\x60\x60\x60\x60" + CLOSE
    ends = {
        Sessions().run(stream, cuts, deflate=False)
        for cuts in ([], [1], [7, 9, 15], list(range(len(stream))))
    }
    assert len(ends) == 1


DIFFERENCES = {
    "length": b"\x82\xfe\x00\x01" + MASK + b"x",
    "control": b"\x09\x85" + MASK,
    "header": b"\xc1\x85" + MASK,
    "order": b"\x80\x85" + MASK,
    "early": b"\x81\x85" + MASK + b"\xff",
    "close": b"\x01\x81" + MASK + b"a" + CLOSE,
    "reason": b"\x88\x83" + MASK + b"\x00\x00\xff",
    "counted": b"\x02\xfe\x03\xe8" + MASK + bytes(1000) + PING,
}


@pytest.mark.parametrize(("why", "stream"), DIFFERENCES.items())
def test_known_difference_is_explained(why: str, stream: bytes) -> None:
    ours, verdict = Sessions().run(stream, [], deflate=False), run(stream, deflate=False)
    assert ours != verdict.end
    assert explanation(stream, ours, verdict, deflate=False) == why


@pytest.mark.parametrize(
    ("stream", "ours"),
    [
        (TEXT, End((), None)),
        (TEXT, End(((1, b"b"),), None)),
        (TEXT, End(((1, b"a"),), 1002)),
        (TEXT + CLOSE, End(((1, b"a"),), 1000)),
        (PING + b"\x83\x80" + MASK, End(((10, b"x"),), None)),
        (b"\x81\x85" + MASK + b"ab", End((), 1007)),
    ],
)
def test_wrong_end_is_not_explained(stream: bytes, ours: End) -> None:
    for deflate in (False, True):
        verdict = run(stream, deflate=deflate)
        assert explanation(stream, ours, verdict, deflate=deflate) is None


def test_headers_are_found_whatever_their_sense() -> None:
    found = headers(b"\x83\x01x" + b"\x82\xfe\x00\x01" + MASK + b"y" + b"\x81\x85")
    assert [(each.opcode, each.length, each.complete) for each in found] == [
        (3, 1, True),
        (2, 1, True),
        (1, 5, False),
    ]
