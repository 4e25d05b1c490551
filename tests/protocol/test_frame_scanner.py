"""What of a client's bytes is passed on, and how."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import EXTERNAL_CLOSE_CODES, Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol
from websockets.streams import StreamReader

from energyws.errors import PROTOCOL_VIOLATION, TOO_BIG, Close
from energyws.protocol.frame_scanner import (
    CONTINUATION,
    MAX_FRAGMENTS,
    FrameScanner,
    Violation,
    is_short_frame,
)
from tests.clients import masked

LIMIT = 70_000
MASK = b"\x01\x02\x03\x04"
# Of a fragment that is not the first one made of its frame.
CONTINUES = 0x20

payloads = st.binary(max_size=125) | st.integers(126, 66_000).map(bytes)
controls = st.builds(Frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125))


@st.composite
def messages(draw: st.DrawFn) -> list[Frame]:
    """The frames of a message, with control frames between them."""
    opcode = draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY]))
    parts = draw(st.lists(payloads, min_size=1, max_size=3))
    found = []
    for at, part in enumerate(parts):
        found.append(Frame(Opcode.CONT if at else opcode, part, at == len(parts) - 1))
        found += draw(st.lists(controls, max_size=1))
    return found


def scanned(scanner: FrameScanner, data: bytes, step: int) -> list[bytes]:
    """What is passed on of bytes that come `step` at a time."""
    return [
        frame for at in range(0, len(data), step) for frame in scanner.scan(data[at : at + step])
    ]


def parsed(frames: list[bytes]) -> list[Frame]:
    """The same as another implementation reads it. Each is one whole frame."""
    found = []
    for each in frames:
        reader = StreamReader()
        # Without the mark, which only we know.
        reader.feed_data(bytes((each[0] & ~CONTINUES,)) + each[1:])
        with pytest.raises(StopIteration) as stop:
            next(Frame.parse(reader.read_exact, mask=True))
        assert not reader.buffer
        found.append(stop.value.value)
    return found


def joined(frames: list[bytes]) -> list[Frame]:
    """The client's frames."""
    found: list[Frame] = []
    for each, frame in zip(frames, parsed(frames), strict=True):
        if each[0] & CONTINUES:
            assert frame.opcode is Opcode.CONT
            assert not found[-1].fin
            found[-1].data = bytes(found[-1].data) + bytes(frame.data)
            found[-1].fin = frame.fin
        else:
            found.append(frame)
    return found


@given(st.lists(messages(), max_size=3), st.integers(1, 200) | st.integers(200, 60_000))
def test_passes_on_what_another_implementation_writes_however_it_is_cut(
    sent: list[list[Frame]], step: int
) -> None:
    for message in sent:
        if sum(len(frame.data) for frame in message) > LIMIT:
            return
    flat = [frame for message in sent for frame in message]
    if sum(len(frame.data) for frame in flat) > 2_000:
        step += 500
    scanner = FrameScanner(LIMIT)
    found = scanned(scanner, b"".join(frame.serialize(mask=True) for frame in flat), step)
    assert all(len(frame) <= step + 140 for frame in found)
    assert [(each.opcode, bytes(each.data), each.fin) for each in joined(found)] == [
        (each.opcode, bytes(each.data), each.fin) for each in flat
    ]
    assert not scanner.has_state


def test_frame_in_one_read_is_passed_on_as_it_is() -> None:
    data = [masked(2, b"abc"), masked(9, b""), masked(1, b"x", final=False), masked(0, b"y")]
    assert scanned(FrameScanner(LIMIT), b"".join(data), 1000) == data


@pytest.mark.parametrize("opcode", [1, 2, 9, 10])
@pytest.mark.parametrize("size", [0, 1, 125])
def test_short_frame_is_recognized(opcode: int, size: int) -> None:
    frame = masked(opcode, bytes(size))
    assert is_short_frame(frame)
    for other in (frame[:-1], frame + b"x", frame[:1] + b"\0" + frame[2:]):
        assert not is_short_frame(other)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 130))
@example(0x81, 0x80 | 126, 4 + 126)
def test_short_frame_needs_no_scanner(first: int, second: int, rest: int) -> None:
    frame = bytes((first, second)) + bytes(rest)
    if is_short_frame(frame):
        scanner = FrameScanner(256)
        assert list(scanner.scan(frame)) == [frame]
        assert not scanner.has_state


def test_control_frames_are_never_cut() -> None:
    data = masked(9, b"x" * 125)
    assert scanned(FrameScanner(LIMIT), data, 1) == [data]


def test_data_frame_is_passed_on_as_it_comes() -> None:
    scanner = FrameScanner(LIMIT, compression=True)
    data = masked(2, b"abcdef", reserved=4)
    assert list(scanner.scan(data[:6])) == []
    assert scanner.has_state
    first, second, third = (list(scanner.scan(part)) for part in (data[6:8], data[8:11], data[11:]))
    # The bit for compression is on the first only.
    assert [frame[0] for (frame,) in (first, second, third)] == [0x42, CONTINUES, 0x80 | CONTINUES]
    assert [bytes(frame.data) for frame in parsed([*second, *third])] == [b"cde", b"f"]
    assert not scanner.has_state


def test_frame_before_a_violation_is_passed_on_first() -> None:
    found = FrameScanner(LIMIT).scan(masked(9, b"") + masked(3, b""))
    assert next(found) == masked(9, b"")
    with pytest.raises(Violation):
        next(found)


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "compression"])
@pytest.mark.parametrize("opcode", [0, 1, 2, 8, 9, 10])
@pytest.mark.parametrize("bits", list(product((0, 1), repeat=3)), ids=str)
def test_reserved_bits_must_be_zero_except_at_the_start_of_a_compressed_message(
    bits: tuple[int, int, int], opcode: int, compression: bool
) -> None:
    rsv1, rsv2, rsv3 = bits
    frame = bytes((0x80 | rsv1 << 6 | rsv2 << 5 | rsv3 << 4 | opcode, 0x80)) + MASK
    scanner = FrameScanner(LIMIT, compression)
    if opcode == CONTINUATION:
        assert len(list(scanner.scan(masked(1, b"", final=False)))) == 1
    allowed = bits == (1, 0, 0) and compression and opcode in (1, 2)
    if allowed or bits == (0, 0, 0):
        assert list(scanner.scan(frame)) == [frame]
        return
    with pytest.raises(Violation, match="reserved bit") as violation:
        list(scanner.scan(frame[:2]))
    assert violation.value.close is PROTOCOL_VIOLATION


BAD_HEADERS: dict[str, tuple[str, Close]] = {
    **{f"opcode {opcode}": (f"8{opcode:x} 80", PROTOCOL_VIOLATION) for opcode in (3, 4, 5, 6, 7)},
    **{f"opcode {opcode}": (f"8{opcode:x} 80", PROTOCOL_VIOLATION) for opcode in range(11, 16)},
    "not masked": ("81 00", PROTOCOL_VIOLATION),
    "control frame not masked": ("89 00", PROTOCOL_VIOLATION),
    "ping in fragments": ("09 80", PROTOCOL_VIOLATION),
    "pong in fragments": ("0a 80", PROTOCOL_VIOLATION),
    "close in fragments": ("08 80", PROTOCOL_VIOLATION),
    "ping of 126 bytes": ("89 fe", PROTOCOL_VIOLATION),
    "pong of 126 bytes": ("8a fe", PROTOCOL_VIOLATION),
    "close of 2^16 bytes": ("88 ff", PROTOCOL_VIOLATION),
    "125 bytes as 16 bits": ("82 fe 00 7d", PROTOCOL_VIOLATION),
    "no bytes as 16 bits": ("82 fe 00 00", PROTOCOL_VIOLATION),
    "65535 bytes as 64 bits": ("82 ff 00 00 00 00 00 00 ff ff", PROTOCOL_VIOLATION),
    "no bytes as 64 bits": ("82 ff 00 00 00 00 00 00 00 00", PROTOCOL_VIOLATION),
    "negative": ("82 ff 80 00 00 00 00 01 00 00", PROTOCOL_VIOLATION),
    "more than the limit": ("82 ff 00 00 00 00 00 01 11 71", TOO_BIG),
    "2^63 - 1 bytes": ("82 ff 7f ff ff ff ff ff ff ff", TOO_BIG),
    "more than the limit in two fragments": (
        "02 81 00000000 00 80 ff 00 00 00 00 00 01 11 70",
        TOO_BIG,
    ),
    "continuation first": ("80 80", PROTOCOL_VIOLATION),
    "unfinished continuation first": ("00 80", PROTOCOL_VIOLATION),
    "continuation after a message": ("81 80 00000000 80 80", PROTOCOL_VIOLATION),
    "continuation after fragments": ("01 80 00000000 80 80 00000000 80 80", PROTOCOL_VIOLATION),
    "message inside a message": ("01 80 00000000 81 80", PROTOCOL_VIOLATION),
    "binary inside text": ("01 80 00000000 02 80", PROTOCOL_VIOLATION),
}


@pytest.mark.parametrize(("head", "close"), BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
@pytest.mark.parametrize("step", [1, 100])
def test_bad_header_is_refused_before_its_payload(head: str, close: Close, step: int) -> None:
    with pytest.raises(Violation) as violation:
        scanned(FrameScanner(LIMIT), bytes.fromhex(head), step)
    assert violation.value.close is close


def test_message_of_the_maximum_size_is_accepted() -> None:
    data = masked(2, bytes(LIMIT - 1), final=False) + masked(0, b"x")
    for parts in (data, masked(2, bytes(LIMIT))) * 2:
        scanner = FrameScanner(LIMIT)
        assert sum(len(frame.data) for frame in parsed(scanned(scanner, parts, 1000))) == LIMIT


def test_number_of_fragments_is_limited_per_message() -> None:
    scanner = FrameScanner(LIMIT)
    message = masked(1, b"", final=False) + masked(0, b"", final=False) * (MAX_FRAGMENTS - 2)
    for _ in range(2):
        assert len(scanned(scanner, message + masked(0, b""), 1000)) == MAX_FRAGMENTS
    scanned(scanner, message + masked(0, b"", final=False), 1000)
    with pytest.raises(Violation) as violation:
        scanned(scanner, masked(0, b""), 1000)
    assert violation.value.close is TOO_BIG


def test_fragments_made_of_a_frame_do_not_count() -> None:
    data = masked(1, b"x" * 1000)
    assert len(scanned(FrameScanner(LIMIT), data * 2, 1)) == 2000


def refused(scanner: FrameScanner, data: bytes) -> int | None:
    """The close code that answers these bytes; None: they are allowed."""
    try:
        list(scanner.scan(data))
    except Violation as violation:
        return violation.close.code
    return None


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.booleans(), st.integers(0, 40)), max_size=12)
)
def test_order_and_sizes_are_judged_as_by_another_implementation(
    sent: list[tuple[int, bool, int]],
) -> None:
    server = Protocol(SERVER, state=OPEN, max_size=60)
    scanner = FrameScanner(60)
    for opcode, final, size in sent:
        data = masked(opcode, b"x" * size, final=final)
        server.receive_data(data)
        expected = None if server.close_sent is None else server.close_sent.code
        code = refused(scanner, data)
        # If a frame is out of order and too long, the two look at one or the other first.
        assert code == expected or (code, expected) == (1002, 1009)
        if code is not None:
            return


def test_close_code_is_passed_on_or_refused() -> None:
    allowed = {int(code) for code in EXTERNAL_CLOSE_CODES} | set(range(3000, 5000))
    found = {
        code
        for code in range(1 << 16)
        if refused(FrameScanner(LIMIT), masked(8, code.to_bytes(2, "big"))) is None
    }
    assert found == allowed


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", None),
        (b"\x03\xe8bye", None),
        (b"\x03", 1002),
        (b"\x03\xe8\xff", 1007),
        (b"\x03\xe8\xe2\x82", 1007),
        (b"\x00\x00\xff", 1002),
    ],
    ids=["empty", "good", "half a code", "not UTF-8", "cut off", "bad code and reason"],
)
def test_close_frame_is_judged(payload: bytes, code: int | None) -> None:
    assert refused(FrameScanner(LIMIT), masked(8, payload)) == code


def test_payload_of_a_close_frame_is_judged_without_its_mask() -> None:
    frame = Frame(Opcode.CLOSE, b"\x03\xe8" + "é日😀".encode()).serialize(mask=True)
    assert list(FrameScanner(LIMIT).scan(frame)) == [frame]
