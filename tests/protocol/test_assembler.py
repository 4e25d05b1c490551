from __future__ import annotations

import zlib
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import EXTERNAL_CLOSE_CODES, Frame, Opcode
from websockets.protocol import SERVER, Protocol

from energyws.errors import INVALID_DEFLATE, INVALID_TEXT, PROTOCOL_VIOLATION, TOO_BIG, Close
from energyws.protocol.assembler import (
    BINARY,
    CONTINUATION,
    MAX_FRAGMENTS,
    Assembler,
    Violation,
    check_reserved,
    reply_code,
)
from energyws.protocol.deflate import deflate
from energyws.protocol.frame import TEXT

LIMIT = 1000

Fed = tuple[int, bool, bytes]

opcodes = st.sampled_from([CONTINUATION, TEXT, BINARY])
kinds = st.sampled_from([TEXT, BINARY])
# Characters of every length in UTF-8; cuts may fall inside a character.
texts = st.text("aé日😀", max_size=30).map(str.encode)


@st.composite
def fragmented(draw: st.DrawFn, payloads: st.SearchStrategy[bytes]) -> list[bytes]:
    """A payload in fragments, some of them empty."""
    payload = draw(payloads)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=8)))
    return [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]


def frames(kind: int, parts: list[bytes]) -> list[Fed]:
    """The frames that carry a message in these fragments."""
    last = len(parts) - 1
    return [(CONTINUATION if at else kind, at == last, part) for at, part in enumerate(parts)]


def feed(fed: list[Fed], max_bytes: int = LIMIT) -> list[bytes | None]:
    """What a new assembler returns for each frame."""
    assembler = Assembler(max_bytes)
    return [assembler.feed(*each) for each in fed]


def broken_at(fed: list[Fed], max_bytes: int = LIMIT) -> tuple[int, Close] | None:
    """The index of the frame that an assembler refuses, and the close; None if it accepts all."""
    assembler = Assembler(max_bytes)
    for at, each in enumerate(fed):
        try:
            assembler.feed(*each)
        except Violation as violation:
            return at, violation.close
    return None


def oracle(fed: list[Fed], max_bytes: int | None = None) -> tuple[int, int] | None:
    """The index of the frame that another implementation refuses, and the close code."""
    server = Protocol(SERVER, max_size=max_bytes)
    for at, (opcode, final, payload) in enumerate(fed):
        server.receive_data(Frame(Opcode(opcode), payload, final).serialize(mask=True))
        if server.parser_exc is not None:
            assert server.close_sent is not None
            return at, server.close_sent.code
    return None


@given(kinds, fragmented(texts))
def test_fragments_make_the_message(kind: int, parts: list[bytes]) -> None:
    *early, message = feed(frames(kind, parts))

    assert early == [None] * (len(parts) - 1)
    assert message == b"".join(parts)


@given(st.lists(st.tuples(kinds, fragmented(texts)), max_size=4))
def test_messages_follow_each_other(sent: list[tuple[int, list[bytes]]]) -> None:
    returned = feed([each for kind, parts in sent for each in frames(kind, parts)])

    assert [message for message in returned if message is not None] == [
        b"".join(parts) for _, parts in sent
    ]


@given(fragmented(st.binary(max_size=12) | texts))
@example([b"\xed", b"\xa0\x80"])
@example([b"\xf0\x9f", b"\x98"])
def test_text_is_accepted_exactly_if_it_is_utf8(parts: list[bytes]) -> None:
    try:
        b"".join(parts).decode()
    except UnicodeDecodeError:
        broken = broken_at(frames(TEXT, parts))
        assert broken is not None
        assert broken[1] is INVALID_TEXT
    else:
        assert broken_at(frames(TEXT, parts)) is None


@given(fragmented(st.binary(max_size=12)))
def test_binary_may_be_anything(parts: list[bytes]) -> None:
    assert feed(frames(BINARY, parts))[-1] == b"".join(parts)


def test_binary_after_text_may_be_anything() -> None:
    fed = frames(TEXT, [b"a", b"b"]) + frames(BINARY, [b"\xff", b"\xfe"])

    assert feed(fed) == [None, b"ab", None, b"\xff\xfe"]


BAD_TEXT = {
    "invalid start byte": ([b"\xff"], 0),
    "in one frame, cut off": ([b"\xe2\x82"], 0),
    "in one frame, surrogate": ([b"\xed\xa0\x80"], 0),
    "overlong, first fragment": ([b"\xc0\xaf", b"a", b"b"], 0),
    "overlong, split": ([b"\xe0", b"\x80\xaf", b"b"], 1),
    "beyond U+10FFFF, first fragment": ([b"\xf4\x90", b"\x80\x80", b""], 0),
    "continuation byte missing": ([b"\xe2\x82", b"a", b"b"], 1),
    "stray continuation byte": ([b"a", b"\x80", b"b"], 1),
    "surrogate, split": ([b"\xed", b"\xa0\x80", b"b"], 1),
    "cut off at the end": ([b"a", b"\xf0\x9f\x98"], 1),
    "cut off before an empty end": ([b"\xf0\x9f\x98", b"", b""], 2),
}


@pytest.mark.parametrize(("parts", "at"), BAD_TEXT.values(), ids=BAD_TEXT.keys())
def test_bad_text_is_refused_at_the_fragment_with_the_bad_byte(parts: list[bytes], at: int) -> None:
    assert broken_at(frames(TEXT, parts)) == (at, INVALID_TEXT)


BAD_ORDER: dict[str, tuple[list[Fed], int]] = {
    "continuation first": ([(CONTINUATION, True, b"")], 0),
    "unfinished continuation first": ([(CONTINUATION, False, b"")], 0),
    "continuation after a whole message": ([(TEXT, True, b"a"), (CONTINUATION, True, b"")], 1),
    "continuation after a finished one": (
        [(TEXT, False, b"a"), (CONTINUATION, True, b""), (CONTINUATION, True, b"")],
        2,
    ),
    "message inside a message": ([(TEXT, False, b"a"), (TEXT, True, b"b")], 1),
    "binary inside text": ([(TEXT, False, b"a"), (BINARY, False, b"b")], 1),
}


@pytest.mark.parametrize(("fed", "at"), BAD_ORDER.values(), ids=BAD_ORDER.keys())
def test_fragments_out_of_order_are_a_violation(fed: list[Fed], at: int) -> None:
    assert broken_at(fed) == (at, PROTOCOL_VIOLATION)


@given(st.lists(st.tuples(opcodes, st.booleans(), st.just(b"a")), max_size=12))
def test_order_check_agrees_with_another_implementation(fed: list[Fed]) -> None:
    broken = broken_at(fed)

    assert (broken and (broken[0], broken[1].code)) == oracle(fed)


@given(kinds, fragmented(st.binary(max_size=40).map(lambda b: b"x" * len(b))), st.integers(1, 40))
def test_size_check_agrees_with_another_implementation(
    kind: int, parts: list[bytes], max_bytes: int
) -> None:
    broken = broken_at(frames(kind, parts), max_bytes)

    assert (broken and (broken[0], broken[1].code)) == oracle(frames(kind, parts), max_bytes)


TOO_LARGE = {
    "one frame": ([b"x" * (LIMIT + 1)], 0),
    "first fragment": ([b"x" * (LIMIT + 1), b""], 0),
    "last byte": ([b"x" * LIMIT, b"x"], 1),
    "before the text is checked": ([b"x" * LIMIT, b"\xff"], 1),
    "one fragment too many": ([b"x"] * (MAX_FRAGMENTS + 1), MAX_FRAGMENTS),
    "empty fragments without end": ([b""] * 1000, MAX_FRAGMENTS),
}


@pytest.mark.parametrize(("parts", "at"), TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_message_over_the_limits_is_too_big(parts: list[bytes], at: int) -> None:
    assert broken_at(frames(TEXT, parts)) == (at, TOO_BIG)


WITHIN = {
    "one frame": [b"x" * LIMIT],
    "two fragments": [b"x" * (LIMIT - 1), b"x"],
    "as many fragments as allowed": [b"x"] * MAX_FRAGMENTS,
    "empty": [b""],
    "empty, in two": [b"", b""],
}


@pytest.mark.parametrize("parts", WITHIN.values(), ids=WITHIN.keys())
def test_limits_are_per_message_and_inclusive(parts: list[bytes]) -> None:
    message = b"".join(parts)
    returned = feed(frames(TEXT, parts) * 3)

    assert [message for message in returned if message is not None] == [message] * 3


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "compression"])
@pytest.mark.parametrize("opcode", [0, 1, 2, 8, 9, 10])
@pytest.mark.parametrize("bits", list(product((0, 1), repeat=3)), ids=str)
def test_reserved_bits_must_be_zero_except_at_the_start_of_a_compressed_message(
    bits: tuple[int, int, int], opcode: int, compression: bool
) -> None:
    if bits == (0, 0, 0) or (bits == (1, 0, 0) and compression and opcode in (TEXT, BINARY)):
        check_reserved(opcode, *bits, compression)
        return
    with pytest.raises(Violation, match="reserved bit") as violation:
        check_reserved(opcode, *bits, compression)
    assert violation.value.close is PROTOCOL_VIOLATION


def test_close_code_is_returned_or_refused() -> None:
    def reply(code: int) -> int | None:
        try:
            return reply_code(2, code)
        except Violation:
            return None

    allowed: set[Any] = EXTERNAL_CLOSE_CODES | set(range(3000, 5000))

    assert {code: reply(code) for code in range(1 << 16)} == {
        code: code if code in allowed else None for code in range(1 << 16)
    }


CLOSE_CODES = {
    0: False,
    999: False,
    1000: True,
    1003: True,
    1004: False,
    1005: False,
    1006: False,
    1007: True,
    1011: True,
    1014: True,
    1015: False,
    1016: False,
    2999: False,
    3000: True,
    4999: True,
    5000: False,
    65_535: False,
}


@pytest.mark.parametrize(("code", "allowed"), CLOSE_CODES.items(), ids=str)
def test_close_code_may_be_sent(code: int, allowed: bool) -> None:
    if allowed:
        assert reply_code(2, code) == code
    else:
        with pytest.raises(Violation, match=f"close code {code}") as violation:
            reply_code(2, code)
        assert violation.value.close is PROTOCOL_VIOLATION


@pytest.mark.parametrize("code", [0, 1000, 1005, 5000])
def test_reply_to_a_close_without_a_code_is_1000(code: int) -> None:
    assert reply_code(0, code) == 1000


def feed_compressed(kind: int, parts: list[bytes], max_bytes: int = LIMIT) -> list[bytes | None]:
    """What a new assembler returns for a compressed message in these fragments."""
    assembler = Assembler(max_bytes)
    return [
        assembler.feed(opcode, final, part, compressed=opcode != CONTINUATION)
        for opcode, final, part in frames(kind, parts)
    ]


@given(kinds, fragmented(texts.map(deflate)))
def test_compressed_fragments_make_the_message(kind: int, parts: list[bytes]) -> None:
    message = zlib.decompress(b"".join(parts) + b"\x00\x00\xff\xff\x03\x00", -zlib.MAX_WBITS)

    assert feed_compressed(kind, parts) == [None] * (len(parts) - 1) + [message]


def test_compressed_and_plain_messages_may_alternate() -> None:
    assembler = Assembler(LIMIT)
    small = deflate(b"compressed")

    for _ in range(2):
        assert assembler.feed(TEXT, False, small[:3], compressed=True) is None
        assert assembler.feed(CONTINUATION, True, small[3:]) == b"compressed"
        assert assembler.feed(TEXT, False, b"pl") is None
        assert assembler.feed(CONTINUATION, True, b"ain") == b"plain"
        assert assembler.feed(TEXT, True, small, compressed=True) == b"compressed"
        assert assembler.feed(TEXT, True, b"plain") == b"plain"


@given(kinds, st.lists(texts, min_size=1, max_size=4), st.booleans())
def test_compressed_messages_may_refer_to_earlier_ones(
    kind: int, messages: list[bytes], takeover: bool
) -> None:
    assembler = Assembler(LIMIT, takeover)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    for message in messages:
        if not takeover:
            compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
        small = data.removesuffix(b"\0\0\xff\xff")
        assert assembler.feed(kind, True, small, compressed=True) == message
    assert assembler.has_state == (takeover and any(messages))


COMPRESSED_BREACHES: dict[str, tuple[int, bytes, Close]] = {
    "a bomb": (TEXT, deflate(bytes(LIMIT + 1)), TOO_BIG),
    "compressed form too big": (TEXT, bytes(LIMIT + 1), TOO_BIG),
    "no deflate data": (BINARY, b"\xff\xff", INVALID_DEFLATE),
    "half of a message": (BINARY, deflate(b"hello, world")[:-3], INVALID_DEFLATE),
    "nothing at all": (TEXT, b"", INVALID_DEFLATE),
    "text that is not UTF-8": (TEXT, deflate(b"\xff"), INVALID_TEXT),
}


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("name", COMPRESSED_BREACHES)
def test_compressed_violation_is_refused(name: str, pieces: int) -> None:
    kind, payload, close = COMPRESSED_BREACHES[name]
    step = len(payload) // pieces
    cuts = [step * at for at in range(pieces)]
    parts = [payload[a:b] for a, b in zip(cuts, [*cuts[1:], len(payload)], strict=True)]

    with pytest.raises(Violation) as violation:
        feed_compressed(kind, parts)
    assert violation.value.close is close


def test_compressed_message_of_the_maximum_size_is_accepted() -> None:
    assert feed_compressed(TEXT, [deflate(bytes(LIMIT))]) == [bytes(LIMIT)]
    assert feed_compressed(BINARY, [deflate(b"\xff")]) == [b"\xff"]
