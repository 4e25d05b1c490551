"""The client protocol: parses clients' messages and builds the replies. No I/O, no state.

Client to server, as JSON in text or binary frames; other fields are ignored:

    {"type":"subscribe","streams":["energy"]}
        "resume": {"energy": "<id>"}    everything after this position
        "since": "2025-12-26T12:34:56Z" everything since this time (RFC 3339)
        "last": 10                      the newest 10 frames first
        "on_lag": "skip"                or "latest" or "disconnect": see OnLag
        "keys": {"energy": ["4711"]}    these keys only, of a stream that has keys
        "snapshot": true                first the newest record of each key
    {"type":"unsubscribe","streams":["energy"]}
    {"type":"ping"}
        "worker": true                  also which worker serves the connection
    {"type":"auth","token":"<JWT>"}

The first line of each is the protocol of energy-ws and never changes; docs/protocol.md has the
replies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import orjson

from energyws.errors import BAD_JSON, BAD_MESSAGE, UNKNOWN_TYPE, EnergywsError, ErrorCode
from energyws.protocol import frame
from energyws.protocol.keys import KeyFilter
from energyws.protocol.rfc3339 import milliseconds
from energyws.protocol.snapshot_told import SnapshotTold

# Far more than any configuration has streams; bounds the work of one message.
MAX_STREAMS: Final = 64
MAX_LAST: Final = 1_000_000
MIN_RATE: Final = 0.01
MAX_RATE: Final = 100
MAX_TOKEN_BYTES: Final = 8 * 1024


class OnLag(Enum):
    """What happens to a subscription that falls further behind than the ring goes back.

    SKIP: a `lagged` message with the count and both positions, then live.
    LATEST: the same, but as soon as it falls behind at all: only the newest frame counts.
    DISCONNECT: close 4008; the client resumes.
    """

    SKIP = "skip"
    LATEST = "latest"
    DISCONNECT = "disconnect"


class Unrecovered(Enum):
    """Why a `subscribed` reply says `recovered: false`."""

    BAD_POSITION = "BAD_POSITION"
    EPOCH_CHANGED = "EPOCH_CHANGED"
    POSITION_AHEAD = "POSITION_AHEAD"
    HISTORY_EXCEEDED = "HISTORY_EXCEEDED"
    RETENTION = "RETENTION"


class BadClientMessage(EnergywsError):
    """A message that gets an `error` reply; the connection is kept."""

    def __init__(self, error: ErrorCode, detail: str = "") -> None:
        super().__init__(detail or error.message)
        self.error = error
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Subscribe:
    """resume: the text of a position per stream, not yet parsed. last: a number of frames.

    since_ms: milliseconds since the Unix epoch. At most one of the three is given.
    keys: what is asked for of a stream, not yet checked. filters: the keys that it gets; all of a
    stream that is not in it. snapshot: first the newest record of each of them.
    max_rate: at most so many times a second the newest record of each; None: every one.
    """

    streams: tuple[str, ...]
    resume: dict[str, str]
    last: int | None
    on_lag: OnLag
    since_ms: int | None = None
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    filters: dict[str, KeyFilter] = field(default_factory=dict)
    snapshot: bool = False
    max_rate: float | None = None

    def wants_history(self, stream: str) -> bool:
        """Whether it requests history of this stream."""
        return stream in self.resume or self.last is not None or self.since_ms is not None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a `pong`. worker: and for the worker that sends it."""

    worker: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Renew:
    """A fresh token for a connection whose token expires soon."""

    token: str


ClientMessage = Subscribe | Unsubscribe | Ping | Renew


def parse(payload: bytes) -> ClientMessage:
    """The message in a client's payload; raises BadClientMessage."""
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise BadClientMessage(BAD_JSON, error.msg) from None
    if type(message) is not dict:
        raise BadClientMessage(BAD_JSON, f"a JSON {type(message).__name__}, not an object")
    match message.get("type"):
        case "ping":
            return Ping(worker=message.get("worker") is True)
        case "subscribe":
            return subscribe(message)
        case "unsubscribe":
            return Unsubscribe(_streams(message))
        case "auth":
            return Renew(_token(message))
        case str(other):
            raise BadClientMessage(
                UNKNOWN_TYPE,
                f"{other[:40]!r}; known are subscribe, unsubscribe, ping and auth",
            )
        case _:
            raise BadClientMessage(BAD_MESSAGE, "`type` must be a string")


def subscribe(message: dict[str, Any]) -> Subscribe:
    """The subscription with these fields; raises BadClientMessage."""
    streams = _streams(message)
    resume = message.get("resume")
    if resume is None:
        resume = {}
    if type(resume) is not dict or not all(type(text) is str for text in resume.values()):
        raise BadClientMessage(BAD_MESSAGE, "`resume` must be an object of stream: id")
    if stray := [name for name in resume if name not in streams]:
        raise BadClientMessage(
            BAD_MESSAGE, f"`resume` names {stray[0][:64]!r}, which `streams` does not"
        )
    last = message.get("last")
    if last is not None and not (type(last) is int and 0 <= last <= MAX_LAST):
        raise BadClientMessage(BAD_MESSAGE, f"`last` must be an integer from 0 to {MAX_LAST}")
    since = message.get("since")
    if bool(resume) + (last is not None) + (since is not None) > 1:
        raise BadClientMessage(BAD_MESSAGE, "`resume`, `since` and `last` exclude each other")
    on_lag = message.get("on_lag")
    try:
        on_lag = OnLag.SKIP if on_lag is None else OnLag(on_lag)
    except ValueError:
        raise BadClientMessage(BAD_MESSAGE, "`on_lag` must be skip, latest or disconnect") from None
    since_ms = None if since is None else _since(since)
    snapshot = message.get("snapshot")
    if snapshot is not None and type(snapshot) is not bool:
        raise BadClientMessage(BAD_MESSAGE, "`snapshot` must be true or false")
    if snapshot and (last is not None or since is not None):
        raise BadClientMessage(BAD_MESSAGE, "`snapshot` excludes `since` and `last`")
    return Subscribe(
        streams,
        resume,
        last,
        on_lag,
        since_ms,
        _keys(message, streams),
        snapshot=bool(snapshot),
        max_rate=_max_rate(message.get("max_rate")),
    )


def _keys(message: dict[str, Any], streams: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    keys = message.get("keys")
    if keys is None:
        return {}
    if type(keys) is not dict or not all(
        type(each) is list and each and all(type(key) is str for key in each)
        for each in keys.values()
    ):
        detail = '`keys` must have a list of strings for each stream: {"energy":["4711"]}'
        raise BadClientMessage(BAD_MESSAGE, detail)
    if not keys.keys() <= set(streams):
        # The name is not told: it may be a key, or the part of one before a colon.
        raise BadClientMessage(BAD_MESSAGE, "`keys` names a stream that `streams` does not")
    return {name: tuple(dict.fromkeys(each)) for name, each in keys.items()}


def _since(text: object) -> int:
    try:
        return milliseconds(text if type(text) is str else "")
    except ValueError:
        raise BadClientMessage(
            BAD_MESSAGE, "`since` must be an RFC 3339 time such as 2025-12-26T12:34:56Z"
        ) from None


def _max_rate(rate: object) -> float | None:
    if rate is None:
        return None
    if (type(rate) is int or type(rate) is float) and MIN_RATE <= rate <= MAX_RATE:
        return float(rate)
    raise BadClientMessage(BAD_MESSAGE, f"`max_rate` must be from {MIN_RATE} to {MAX_RATE}")


def _streams(message: dict[str, Any]) -> tuple[str, ...]:
    streams = message.get("streams")
    if (
        type(streams) is not list
        or not 0 < len(streams) <= MAX_STREAMS
        or not all(type(name) is str for name in streams)
    ):
        raise BadClientMessage(
            BAD_MESSAGE, f"`streams` must be a list of 1 to {MAX_STREAMS} stream names"
        )
    return tuple(dict.fromkeys(streams))


def _token(message: dict[str, Any]) -> str:
    token = message.get("token")
    if type(token) is not str or not 0 < len(token) <= MAX_TOKEN_BYTES:
        raise BadClientMessage(
            BAD_MESSAGE, f"`token` must be a string of at most {MAX_TOKEN_BYTES} characters"
        )
    return token


@dataclass(frozen=True, slots=True)
class Subscribed:
    """One stream in a `subscribed` reply.

    position: where delivery begins. recovered: None where no history was requested. replayed: how
    many frames, at most, precede live ones. missing: how many records, at most, are missing of each
    partition. Both are None where nobody knows. keys: how many keys and prefixes the client gets;
    None: everything. snapshot: None: there is none.
    """

    position: str
    recovered: bool | None = None
    replayed: int | None = 0
    reason: Unrecovered | None = None
    earliest: str | None = None
    missing: tuple[int, ...] | None = None
    keys: int | None = None
    snapshot: SnapshotTold | None = None


def subscribed(streams: dict[str, Subscribed]) -> bytes:
    """The frame that answers `subscribe`."""
    positions: dict[str, dict[str, object]] = {}
    for name, state in streams.items():
        fields: dict[str, object] = {"position": state.position}
        if state.recovered is not None:
            fields |= {"recovered": state.recovered, "replayed": state.replayed}
        if state.reason is not None:
            fields |= {
                "reason": state.reason.value,
                "earliest": state.earliest,
                "missing": state.missing,
            }
        positions[name] = fields
    message = {"type": "subscribed", "streams": list(streams), "positions": positions}
    if keys := {name: each.keys for name, each in streams.items() if each.keys is not None}:
        message["keys"] = keys
    if snapshots := {
        name: each.snapshot.as_json(each.position)
        for name, each in streams.items()
        if each.snapshot is not None
    }:
        message["snapshots"] = snapshots
    return frame.text(message)


def unsubscribed(streams: Iterable[str]) -> bytes:
    """The frame that answers `unsubscribe`."""
    return frame.text({"type": "unsubscribed", "streams": list(streams)})


def position(
    stream: str, position: str, conflated: int = 0, had: SnapshotTold | None = None
) -> bytes:
    """The frame that tells a client that gets some keys where it is: it has all before that.

    conflated: how many frames newer ones have superseded since the last one. had: what the snapshot
    that it ends has, where `subscribed` has promised more.
    """
    message: dict[str, object] = {"type": "position", "stream": stream, "id": position}
    if conflated:
        message["conflated"] = conflated
    if had is not None:
        message["snapshot"] = had.as_json(position)
    return frame.text(message)


def pong(timestamp_ms: int, worker: Mapping[str, int] | None = None) -> bytes:
    """The frame that answers `ping`. worker: the slot and process id of the one that sends it."""
    message: dict[str, object] = {"type": "pong", "timestamp": frame.rfc3339(timestamp_ms)}
    return frame.text(message if worker is None else {**message, "worker": worker})


def authenticated(expires_at_ms: int) -> bytes:
    """The frame that answers `auth`."""
    return frame.text({"type": "authenticated", "expires": frame.rfc3339(expires_at_ms)})


def error_body(error: ErrorCode, detail: str = "") -> bytes:
    """The body of an HTTP response with this code, as JSON."""
    return _coded("error", error, detail)


def error(code: ErrorCode, detail: str = "") -> bytes:
    """The frame with this code: an `error`, or a `notice` if the code is one."""
    return frame.encode(frame.TEXT, _coded("notice" if code.notice else "error", code, detail))


def _coded(kind: str, code: ErrorCode, detail: str) -> bytes:
    message = f"{code.message}: {detail}" if detail else code.message
    return orjson.dumps({"type": kind, "message": message, "code": code.code})


def reconnect(after_ms: int) -> bytes:
    """The frame that asks a client to reconnect after `after_ms` milliseconds."""
    return frame.text({"type": "reconnect", "after_ms": after_ms})
