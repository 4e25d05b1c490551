"""Messages of clients that get an error, and positions that cannot be resumed from."""

from __future__ import annotations

from typing import Final

import orjson

EPOCH: Final = "abcd0123"


def subscribe(**fields: object) -> bytes:
    return orjson.dumps({"type": "subscribe", "streams": ["energy"], **fields})


JSON: Final[dict[str, bytes]] = {
    repr(text): text
    for text in (
        *(b"", b" ", b"{", b"}", b"[]", b"null", b"true", b"1", b'"ping"', b"{}{}", b"{'a':1}"),
        *(b'{"type":}', b'{"type":"ping",}', b'{type:"ping"}', b'{"type":"ping"', b"[[[["),
        *(b'{"type":"ping"}x', b'\xef\xbb\xbf{"type":"ping"}', b'{"n":NaN}', b'{"n":Infinity}'),
        *(b'{"n":01}', b'{"n":+1}', b'{"n":.5}', b'{"n":1.}', b'{"n":0x1}', b'{"s":"\\x"}'),
        *(
            b'{"s":"\\u12"}',
            b'{"s":"\\ud800"}',
            b'{"s":"a\nb"}',
            b'{"s":"\x00"}',
            b"//\n{}",
            b"{/**/}",
        ),
    )
} | {
    "nested 2,000 deep": b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    "an array nested 5,000 deep": b"[" * 5_000,
}

TYPES: Final[dict[str, tuple[bytes, str]]] = {
    **{
        f"type {kind!r}": (orjson.dumps({"type": kind}), "BAD_MESSAGE")
        for kind in (None, 1, True, [], {}, ["ping"], {"type": "ping"})
    },
    "no type": (b"{}", "BAD_MESSAGE"),
    "Type": (b'{"Type":"ping"}', "BAD_MESSAGE"),
    **{
        f"type {kind!r}": (orjson.dumps({"type": kind}), "UNKNOWN_TYPE")
        for kind in (
            *("", "PING", "ping ", "pings", "pong", "data", "publish", "subscribed", "error"),
            *("__proto__", "constructor", "p\u0456ng", "x" * 500, "\x00", "\u202e"),
        )
    },
}

STREAMS: Final[dict[str, tuple[bytes, str]]] = {
    **{
        f"{kind} of {streams!r}"[:60]: (
            orjson.dumps({"type": kind, "streams": streams}),
            "BAD_MESSAGE",
        )
        for kind in ("subscribe", "unsubscribe")
        for streams in (
            None,
            "energy",
            1,
            {},
            [],
            [1],
            [None],
            ["energy", 1],
            [["energy"]],
            ["s"] * 65,
        )
    },
    "subscribe without streams": (b'{"type":"subscribe"}', "BAD_MESSAGE"),
    "unsubscribe without streams": (b'{"type":"unsubscribe"}', "BAD_MESSAGE"),
    **{
        f"stream {name!r}": (subscribe(streams=[name]), "UNKNOWN_STREAM")
        for name in (
            "",
            "Energy",
            "energy ",
            "e",
            "../energy",
            "energy\x00",
            "\u0435nergy",
            "x" * 900,
        )
    },
    "one good and one unknown stream": (subscribe(streams=["energy", "x"]), "UNKNOWN_STREAM"),
}

FIELDS: Final[dict[str, tuple[bytes, str]]] = {
    **{
        f"resume {value!r}": (subscribe(resume=value), "BAD_MESSAGE")
        for value in ("a-1", 1, True, [], ["a-1"], {"energy": 1}, {"energy": None}, {"x": "a-1"})
    },
    **{
        f"last {value!r}": (subscribe(last=value), "BAD_MESSAGE")
        for value in (-1, 1.5, "1", True, [], {}, 1_000_001, 2**63)
    },
    **{
        f"since {value!r}": (subscribe(since=value), "BAD_MESSAGE")
        for value in (
            *(
                1,
                True,
                [],
                "",
                "now",
                "2026",
                "2026-01-01",
                "2026-01-01T00:00:00",
                "20260101T000000Z",
            ),
            *("2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z"),
            *("2026-01-01T00:60:00Z", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00.Z"),
            *("2026-01-01T00:00:00.1234567890Z", "2026-01-01T00:00Z", " 2026-01-01T00:00:00Z"),
            *("2026-01-01T00:00:00Z ", "0000-01-01T00:00:00Z", "\u0662026-01-01T00:00:00Z"),
        )
    },
    **{
        f"on_lag {value!r}": (subscribe(on_lag=value), "BAD_MESSAGE")
        for value in ("", "SKIP", "skip ", "drop", 1, True, [], {})
    },
    **{
        f"resume with {name}": (subscribe(resume={"energy": "a-1"}, **{name: value}), "BAD_MESSAGE")
        for name, value in {"last": 1, "since": "2026-01-01T00:00:00Z"}.items()
    },
    "last with since": (subscribe(last=1, since="2026-01-01T00:00:00Z"), "BAD_MESSAGE"),
    **{
        f"token {value!r}"[:40]: (orjson.dumps({"type": "auth", "token": value}), "BAD_MESSAGE")
        for value in (None, "", 1, True, [], {}, "x" * 8_193)
    },
    "auth without a token": (b'{"type":"auth"}', "BAD_MESSAGE"),
}

# Answered by `subscribed`, with recovered: false and BAD_POSITION.
POSITIONS: Final[dict[str, str]] = {
    repr(text)[:60]: text
    for text in (
        *("", "-", "1", "a", "a-", "-1", "a-b", "a-1-2", "a--1", "a-1.", "a-.1", "a-1..2", "a-+1"),
        *("a-01", "a-00", "a-1.02", "a-1,2", "a-1 ", " a-1", "a-1\n", "A-1", "g-1", "0xa-1"),
        *("a-0x1", "a-1e3", "a-1.5e1", "a-\u0661", "a-\xb2", "a-\uff11", f"{'a' * 17}-1"),
        *(f"a-{2**63}", f"a-0.{2**63}", f"a-{'9' * 400}", "a-" + ".".join(["1"] * 1_025)),
        *(f"{EPOCH}-" + ".".join(["1"] * 73), "null", "{}", "a-1;a-2", "a-1\x00", "\u0430-1"),
        *("a-NaN", "a-Infinity", "a-[1]", 'a-"1"', "a-1/2", "../a-1"),
    )
}
