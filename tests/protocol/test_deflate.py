from __future__ import annotations

import contextlib
import itertools
import random
import tracemalloc
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import Frame, Opcode

from energyws.protocol.deflate import (
    WINDOW_BITS,
    BadDeflate,
    BadOffer,
    Compressor,
    TooLong,
    compress,
    deflate,
    inflate,
    negotiate,
    window_after,
)
from energyws.protocol.frame import PING, TEXT, DataFrames, close, encode
from tests.clients import first_frame

ACCEPTED = "permessage-deflate; server_no_context_takeover"
FORGETFUL = f"{ACCEPTED}; client_no_context_takeover"
LIMITED = f"{ACCEPTED}; server_max_window_bits=12"
FORGETFUL_AND_LIMITED = f"{FORGETFUL}; server_max_window_bits=12"
LIMIT = 10_000

payloads = st.one_of(
    st.binary(max_size=2000),
    st.text('{}":,0123456789abc', max_size=3000).map(str.encode),
    st.builds(lambda piece, times: piece * times, st.binary(max_size=100), st.integers(0, 100)),
)

OFFERS: dict[str, tuple[Sequence[str], str | None]] = {
    "no header": ([], None),
    "empty header": ([""], None),
    "another extension": (["x-webkit-deflate-frame"], None),
    "what websockets and browsers send": (["permessage-deflate; client_max_window_bits"], ACCEPTED),
    "plain": (["permessage-deflate"], ACCEPTED),
    "what Netty sends": (
        ["permessage-deflate;client_max_window_bits,deflate-frame,x-webkit-deflate-frame"],
        ACCEPTED,
    ),
    "server without context": ([ACCEPTED], ACCEPTED),
    "client without context": (["permessage-deflate; client_no_context_takeover"], FORGETFUL),
    "both without context": ([FORGETFUL], FORGETFUL),
    "window and client without context": (
        ["permessage-deflate; server_max_window_bits=14; client_no_context_takeover"],
        FORGETFUL_AND_LIMITED,
    ),
    "client window with a size": (["permessage-deflate; client_max_window_bits=8"], ACCEPTED),
    "server window that is larger": (["permessage-deflate; server_max_window_bits=15"], LIMITED),
    "server window of our size": (["permessage-deflate; server_max_window_bits=12"], LIMITED),
    "server window that is smaller": (["permessage-deflate; server_max_window_bits=11"], None),
    "server window, smallest": (["permessage-deflate; server_max_window_bits=8"], None),
    "an unacceptable offer first": (
        ["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
        ACCEPTED,
    ),
    "the first acceptable offer": (
        ["permessage-deflate; server_max_window_bits=13, permessage-deflate"],
        LIMITED,
    ),
    "several headers": (["foo, bar; a=1", "permessage-deflate; x", "permessage-deflate"], ACCEPTED),
    "quoted value": (['permessage-deflate; server_max_window_bits="12"'], LIMITED),
    "quoted pair": (['permessage-deflate; server_max_window_bits="1\\2"'], LIMITED),
    "white space": (["  permessage-deflate ;\tclient_max_window_bits = 9 , "], ACCEPTED),
    "empty elements": ([", ,permessage-deflate,,"], ACCEPTED),
    "unknown parameter": (["permessage-deflate; client_max_window"], None),
    "parameter twice": (
        ["permessage-deflate; client_max_window_bits; client_max_window_bits=10"],
        None,
    ),
    "value for a flag": (["permessage-deflate; server_no_context_takeover=1"], None),
    "client value for a flag": (["permessage-deflate; client_no_context_takeover=1"], None),
    "server window without a size": (["permessage-deflate; server_max_window_bits"], None),
    "too small": (["permessage-deflate; client_max_window_bits=7"], None),
    "too large": (["permessage-deflate; client_max_window_bits=16"], None),
    "leading zero": (["permessage-deflate; client_max_window_bits=09"], None),
    "not a number": (["permessage-deflate; client_max_window_bits=x"], None),
    "other digits": (["permessage-deflate; server_max_window_bits=1e1"], None),
    "other case": (["Permessage-Deflate"], None),
}


@pytest.mark.parametrize("name", OFFERS)
def test_offer_gets_its_reply(name: str) -> None:
    headers, reply = OFFERS[name]
    assert negotiate(headers) == reply


BAD_HEADERS = [
    "permessage-deflate;",
    "permessage-deflate; ; x",
    "permessage deflate",
    "permessage-deflate; client_max_window_bits=",
    'permessage-deflate; client_max_window_bits="',
    'permessage-deflate; client_max_window_bits="1 0"',
    "=10",
    "; client_max_window_bits",
    "permessage-deflate; a=b=c",
    "d\xe9flate",
]


@pytest.mark.parametrize("header", BAD_HEADERS)
def test_malformed_header_is_refused(header: str) -> None:
    with pytest.raises(BadOffer, match="Sec-WebSocket-Extensions"):
        negotiate(["permessage-deflate", header])


@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_any_header_gets_a_reply_or_is_refused(header: str) -> None:
    with contextlib.suppress(BadOffer):
        assert negotiate([header]) in (None, ACCEPTED, FORGETFUL, LIMITED, FORGETFUL_AND_LIMITED)


def factories() -> list[ClientPerMessageDeflateFactory]:
    return [
        ClientPerMessageDeflateFactory(server, client, server_bits, client_bits)
        for server in (False, True)
        for client in (False, True)
        for server_bits in (None, *range(8, 16))
        for client_bits in (None, *range(9, 16), True)
    ]


def oracle(factory: ClientPerMessageDeflateFactory) -> PerMessageDeflate | None:
    """Another implementation's client with our reply to its offer; raises if the reply is wrong."""
    parameters = factory.get_request_params()
    offer = "; ".join(
        ["permessage-deflate", *(name if v is None else f"{name}={v}" for name, v in parameters)]
    )
    reply = negotiate([offer])
    if reply is None:
        return None
    pairs = [part.strip().partition("=") for part in reply.split(";")[1:]]
    return factory.process_response_params([(name, value or None) for name, _, value in pairs], [])


def test_independent_client_accepts_every_reply() -> None:
    for factory in factories():
        bits = factory.server_max_window_bits
        extension = oracle(factory)
        if bits is not None and bits < WINDOW_BITS:
            assert extension is None
            continue
        assert extension is not None
        assert extension.remote_no_context_takeover
        assert extension.local_no_context_takeover == factory.client_no_context_takeover


@given(payloads)
def test_deflated_message_is_inflated(payload: bytes) -> None:
    assert inflate(deflate(payload), len(payload)) == payload


@given(st.lists(payloads, max_size=5), st.sampled_from([None, 12, 15]))
def test_independent_client_inflates_frames(messages: list[bytes], bits: int | None) -> None:
    extension = oracle(ClientPerMessageDeflateFactory(server_max_window_bits=bits))
    assert extension is not None
    plain = [encode(TEXT, message) for message in messages]
    for message, whole in zip(messages, plain, strict=True):
        small = compress(whole)
        assert len(small) <= len(whole)
        received = Frame(Opcode.TEXT, payload_of(small), True, rsv1=bool(small[0] & 0x40))
        assert extension.decode(received).data == message
    assert compress(b"".join(plain)) == b"".join(map(compress, plain))


@given(st.lists(payloads, max_size=4), st.sampled_from([None, 9, 15]), st.booleans())
def test_independent_client_is_inflated(
    messages: list[bytes], bits: int | None, forgetful: bool
) -> None:
    extension = oracle(
        ClientPerMessageDeflateFactory(
            client_no_context_takeover=forgetful, client_max_window_bits=bits
        )
    )
    assert extension is not None
    window = b""
    for message in messages * 2:
        sent = extension.encode(Frame(Opcode.TEXT, message))
        assert inflate(bytes(sent.data), LIMIT, window) == message
        window = b"" if forgetful else window_after(window, message)


def test_message_may_refer_to_one_far_back() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    window = b""
    for size in (5_000, 16_000, 11_000, 16_000, 16_000):
        # Nothing in it repeats.
        message = random.Random(size).randbytes(size)
        sent = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
        assert inflate(sent.removesuffix(b"\0\0\xff\xff"), 20_000, window) == message
        window = window_after(window, message)
        assert len(window) <= 32 * 1024


@given(payloads, st.integers(0, 9), st.lists(st.integers(0, 3000), max_size=5))
def test_any_blocks_are_inflated(payload: bytes, level: int, cuts: list[int]) -> None:
    # Flushed at any byte, and ended by a final block (RFC 7692 section 7.2.3.4).
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    edges = [0, *sorted(cuts), len(payload)]
    data = b""
    for begin, end in itertools.pairwise(edges):
        data += compressor.compress(payload[begin:end]) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert inflate(data + compressor.flush(zlib.Z_FINISH) + b"\0", LIMIT) == payload
    assert inflate(data.removesuffix(b"\0\0\xff\xff") or b"\0", LIMIT) == payload


# The examples of RFC 7692 section 7.2.3, and other payloads that it allows.
MESSAGES: dict[str, tuple[str, bytes]] = {
    "one block": ("f248cdc9c90700", b"Hello"),
    "no compression": ("000500faff48656c6c6f00", b"Hello"),
    "a last block": ("f348cdc9c9070000", b"Hello"),
    "two blocks": ("f24805000000ffffcac9c90700", b"Hello"),
    "empty": ("00", b""),
    "empty blocks": ("000000ffff" * 100 + "00", b""),
    "two streams": ("f348cdc9c90700" * 2 + "00", b"HelloHello"),
    "a stream that refers to the one before": ("f348cdc9c90700f380130000", b"Hello" * 3),
    "as many streams as are allowed": ("f348cdc9c90700" * 63 + "00", b"Hello" * 63),
}

NO_MESSAGES: dict[str, str] = {
    "nothing": "",
    "a reserved block type": "07",
    "refers to the message before": "f200110000",
    "half of a block": "f248cd",
    "half of a stored block": "000500faff4865",
    "more after the end": "f348cdc9c90700ff",
    "a last block without its ending": "f348cdc9c90700",
    "endless streams": "f348cdc9c90700" * 64 + "00",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_example_is_inflated(name: str) -> None:
    data, message = MESSAGES[name]
    assert inflate(bytes.fromhex(data), LIMIT) == message


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_invalid_payload_is_refused(name: str) -> None:
    with pytest.raises(BadDeflate):
        inflate(bytes.fromhex(NO_MESSAGES[name]), LIMIT)


@given(st.binary(max_size=200))
def test_any_bytes_are_inflated_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadDeflate, TooLong):
        assert len(inflate(data, LIMIT)) <= LIMIT


@given(payloads.filter(bool), st.data())
def test_truncated_message_is_refused(payload: bytes, data: st.DataObject) -> None:
    small = deflate(payload)
    half = small[: data.draw(st.integers(0, len(small) - 2))]
    # A single zero byte is the empty message (RFC 7692 section 7.2.3.6).
    assume(half != b"\x00")
    with pytest.raises(BadDeflate):
        inflate(half, LIMIT)


@given(st.integers(0, 100), st.integers(0, 200))
def test_max_bytes_is_inclusive(bound: int, size: int) -> None:
    if size <= bound:
        assert inflate(deflate(bytes(size)), bound) == bytes(size)
    else:
        with pytest.raises(TooLong, match=str(bound)):
            inflate(deflate(bytes(size)), bound)


def test_bomb_is_not_inflated_beyond_max_bytes() -> None:
    bomb = deflate(bytes(64 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(TooLong):
            inflate(bomb, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(bomb)
    finally:
        tracemalloc.stop()


def test_max_bytes_counts_all_streams() -> None:
    streams = bytes.fromhex("f348cdc9c90700" * 3 + "00")
    assert inflate(streams, 15) == b"Hello" * 3
    with pytest.raises(TooLong):
        inflate(streams, 14)


def test_text_frame_is_compressed_if_that_makes_it_smaller() -> None:
    record = DataFrames("energy").build(0, b'{"a":[%b]}' % b",".join([b"1.5"] * 50), "7f3a90c2-1.2")
    tiny = encode(TEXT, b"{}")
    ping, closing = encode(PING, b"a" * 100), close(1012, "a" * 100)

    small = compress(record)
    assert small[0] == 0xC1
    assert len(small) < len(record) / 2
    assert (
        compress(tiny + record + ping + closing + record) == tiny + small + ping + closing + small
    )
    # Compressed frames are unchanged.
    assert compress(small) == small
    assert compress(b"") == b""


@pytest.mark.parametrize("size", [0, 125, 126, 127, 128, 65535, 65536, 65537, 200_000])
def test_frames_of_every_length_are_found(size: int) -> None:
    payload = (b"0123456789" * (size // 10 + 1))[:size]
    message, after = compress(encode(TEXT, payload) + encode(PING, b"after")).split(b"\x89\x05")
    assert after == b"after"
    body = payload_of(message)
    assert (inflate(body, size) if message[0] & 0x40 else body) == payload


def test_cache_stays_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []

    def counted(frames: bytes) -> bytes:
        made.append(frames)
        return compress(frames)

    monkeypatch.setattr("energyws.protocol.deflate.compress", counted)
    frames = [encode(TEXT, b"%d" % at * 300) for at in range(4)]
    each = len(frames[0]) + len(compress(frames[0]))
    cache = Compressor(3 * each + each // 2)

    for _ in range(2):
        assert [cache(whole) for whole in frames[:3]] == [compress(whole) for whole in frames[:3]]
    assert made == frames[:3]
    cache(frames[3])
    cache(frames[2])
    assert made == frames
    cache(frames[0])
    assert made == [*frames, frames[0]]


def test_frames_larger_than_the_cache_are_not_compressed() -> None:
    cache = Compressor(1000)
    small, large = encode(TEXT, b"a" * 490), encode(TEXT, b"a" * 500)
    assert (cache(small), cache(large)) == (compress(small), large)


def payload_of(whole: bytes) -> bytes:
    """The payload of the one frame in these bytes."""
    payload, rest = first_frame(whole) or (b"", b"")
    assert rest == b""
    return payload
