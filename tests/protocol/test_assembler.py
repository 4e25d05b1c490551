from __future__ import annotations

import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from energyws.errors import INVALID_DEFLATE, INVALID_TEXT, TOO_BIG, Close
from energyws.protocol.assembler import Assembler
from energyws.protocol.deflate import deflate
from energyws.protocol.frame import TEXT
from energyws.protocol.frame_scanner import BINARY, CONTINUATION, Violation

LIMIT = 1000

Fed = tuple[int, bool, bytes]

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
