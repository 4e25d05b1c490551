"""The same streams for `websockets`, whose core needs no I/O either, and where the two differ.

It leaves messages, and whether text is UTF-8, to layers above its core; here a few lines take
their place. Whatever else differs must have a reason in EXPLAINED.
"""

from __future__ import annotations

import codecs
from typing import Final, NamedTuple

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol

from bench.fuzz.session import MAX_MESSAGE_BYTES, End
from energyws.protocol.frame_scanner import MAX_FRAGMENTS

PING, PONG, CLOSE, TEXT = 9, 10, 8, 1
EXPLAINED: Final = {
    "length": "A length is not minimal: RFC 6455 section 5.2 forbids it; `websockets` accepts it",
    "control": "A control frame is too long or in fragments: we refuse it at its header (1002), "
    "`websockets` once it is complete, or with 1009",
    "header": "A reserved bit: we refuse the frame at its header, `websockets` once it is complete "
    "or as too big",
    "early": "The frame at fault is not complete: we refuse it already, `websockets` will",
    "order": "A message begins out of order: we refuse it when it begins, `websockets` once its "
    "first frame is complete, or as too big",
    "close": "A close frame inside a message in fragments: we answer it (section 5.4 allows it), "
    "`websockets` sends 1002",
    "counted": "A control frame inside a message that is nearly too long: `websockets` adds their "
    "lengths (1009)",
    "reason": "A close frame whose code and reason are both bad: 1002 from us, 1007 from "
    "`websockets`",
    "late": "A compressed message in fragments: we inflate and check it once it is complete, "
    "`websockets` fragment by fragment",
    "inflate": "Compressed data that is none, or has no end: 1007 from us (section 7.4.1), "
    "1002 from `websockets`, which also accepts half a message",
    "last": "A last block: we inflate what follows it (RFC 7692 section 7.2.3.4), `websockets` "
    "drops it",
}


class Verdict(NamedTuple):
    """What a client of `websockets` would get.

    accepted: how many whole frames. spent: a last block has ended its decompression.
    """

    end: End
    accepted: int
    spent: bool


def run(stream: bytes, *, deflate: bool) -> Verdict:
    """The same stream for `websockets`."""
    protocol = Protocol(SERVER, state=OPEN, max_size=MAX_MESSAGE_BYTES)
    extension = PerMessageDeflate(False, True, 15, 15)
    protocol.extensions = [extension] if deflate else []
    protocol.receive_data(stream)
    spent = extension.decoder.eof
    frames: list[tuple[int, bytes]] = []
    events = [event for event in protocol.events_received() if isinstance(event, Frame)]
    message = _Message()
    for count, event in enumerate(events):
        opcode, data = int(event.opcode), bytes(event.data)
        if opcode == PING:
            frames.append((PONG, data))
        elif opcode < CLOSE:
            try:
                whole = message.add(event)
            except UnicodeDecodeError:
                return Verdict(End(tuple(frames), 1007), count, spent)
            except OverflowError:
                return Verdict(End(tuple(frames), 1009), count, spent)
            if whole is not None:
                frames.append(whole)
    sent = protocol.close_sent
    code = None if sent is None else int(sent.code)
    if code == 1005:
        # It repeats an empty close; we say 1000.
        code = 1000
    # The close frame at the end is an event, too, but not one that was got over.
    accepted = len(events) - (bool(events) and events[-1].opcode == CLOSE)
    return Verdict(End(tuple(frames), code), accepted, spent)


class _Message:
    """The message under way."""

    def __init__(self) -> None:
        self._opcode = 0
        self._data = b""
        self._count = 0
        self._decoder: codecs.IncrementalDecoder | None = None

    def add(self, frame: Frame) -> tuple[int, bytes] | None:
        """The message that this frame completes."""
        if frame.opcode is not Opcode.CONT:
            self._opcode, self._data, self._count = int(frame.opcode), b"", 0
            text = frame.opcode is Opcode.TEXT
            self._decoder = codecs.getincrementaldecoder("utf-8")() if text else None
        self._count += 1
        if self._count > MAX_FRAGMENTS:
            raise OverflowError
        if self._decoder is not None:
            self._decoder.decode(bytes(frame.data), frame.fin)
        self._data += bytes(frame.data)
        return (self._opcode, self._data) if frame.fin else None


class Header(NamedTuple):
    """A frame's header, as it stands. complete: with its payload."""

    first: int
    second: int
    length: int
    extended: int
    complete: bool

    @property
    def opcode(self) -> int:
        return self.first & 0xF

    @property
    def final(self) -> bool:
        return bool(self.first & 0x80)


def headers(stream: bytes) -> list[Header]:
    """Those in a stream, whatever their sense; the last one may be incomplete."""
    found: list[Header] = []
    at = 0
    while at + 2 <= len(stream):
        first, second = stream[at], stream[at + 1]
        extended = {126: 2, 127: 8}.get(second & 0x7F, 0)
        begin = at + 2 + extended
        length = int.from_bytes(stream[at + 2 : begin], "big") if extended else second & 0x7F
        begin += 4 if second & 0x80 else 0
        complete = begin + length <= len(stream)
        found.append(Header(first, second, length, extended, complete))
        at = begin + length
    return found


def explanation(stream: bytes, ours: End, verdict: Verdict, *, deflate: bool) -> str | None:
    """The reason in EXPLAINED for a difference, if there is one."""
    theirs, accepted, spent = verdict
    if spent and _less_from_some_place(theirs, ours):
        return "last"
    every = headers(stream)
    seen, rest = every[:accepted], every[accepted:]
    if ours.code == 1002 and any(map(_is_not_minimal, every[: accepted + 1])):
        return "length" if _begins_with(theirs, ours) else None
    if deflate and (why := _compressed(ours, theirs, seen, rest)):
        return why
    if not rest:
        return None
    at_fault = rest[0]
    data = [each for each in seen if each.opcode < CLOSE]
    inside = bool(data) and not data[-1].final
    is_control = at_fault.opcode >= CLOSE
    if is_control and inside and theirs.code == 1009 and _begins_with(ours, theirs):
        return "counted"
    if not _begins_with(theirs, ours):
        return None
    if ours.code == 1002 and theirs.code in (None, 1009):
        if is_control and (at_fault.length > 125 or not at_fault.final):
            return "control"
        if at_fault.first & 0x70:
            return "header"
        if not is_control and (at_fault.opcode == 0) != inside:
            return "order"
    if at_fault.opcode == CLOSE and inside and theirs.code == 1002:
        return "close"
    if at_fault.opcode == CLOSE and (ours.code, theirs.code) == (1002, 1007):
        return "reason"
    if theirs.code is None and ours.code and not at_fault.complete:
        # Once the frame is there, it must agree.
        complete = stream + bytes(at_fault.length + 14)
        return "early" if run(complete, deflate=deflate).end.code == ours.code else None
    return None


def _compressed(ours: End, theirs: End, seen: list[Header], rest: list[Header]) -> str | None:
    """The reason of a difference that compression makes."""
    # The first frame of each message; the last is that of the message at fault.
    firsts = [each for each in (*seen, *rest[:1]) if 0 < each.opcode < CLOSE]
    if not any(each.first & 0x40 for each in firsts):
        return None
    at_fault = bool(firsts[-1].first & 0x40)
    if at_fault and _begins_with(ours, theirs) and theirs.code in (1002, 1007, 1009):
        unfinished = not any(each.opcode < CLOSE and each.final and each.complete for each in rest)
        if ours.code in (theirs.code, 1002, 1009) or (ours.code is None and unfinished):
            return "late"
        return "inflate" if (ours.code, theirs.code) == (1007, 1002) else None
    if ours.code == 1007 and _begins_with(theirs, ours):
        return "inflate"
    return None


def _less_from_some_place(theirs: End, ours: End) -> bool:
    """Whether the first frame that differs has a payload cut short, or we have refused it."""
    for mine, other in zip(ours.frames, theirs.frames, strict=False):
        if mine != other:
            return mine[0] == other[0] and mine[1].startswith(other[1])
    return len(ours.frames) < len(theirs.frames)


def _begins_with(longer: End, shorter: End) -> bool:
    return longer.frames[: len(shorter.frames)] == shorter.frames


def _is_not_minimal(header: Header) -> bool:
    least = {0: 0, 2: 126, 8: 1 << 16}[header.extended]
    return header.length < least or bool(header.length >> 63)
