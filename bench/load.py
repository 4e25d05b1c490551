"""Thousands of checking clients in a process of their own: load.c, and how to speak with it.

Options go in as words, tokens as lines on its input, and commands after them:

    counts        what all clients have seen so far
    restart       the same; then the delays and spreads are forgotten
    drop          close every connection without a word
    again E N     connect all again, each with resume=E-<its position>; ready once each has N more
    times         microseconds from the first connect to each client's 101, its first message
                  ("subscribed"), and the N-th frame after `again`
"""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Sequence
from typing import Any, Final, Self

import orjson

from bench.build import program
from bench.record import ENVELOPE, N_AT, N_DIGITS, P_AT, PARTITIONS, T_AT, T_DIGITS

CLIENTS_PER_ADDRESS: Final = 10_000
PATIENCE_SECONDS: Final = 120.0


class Load:
    """So many clients of one port; `ready` waits until they are connected and subscribed.

    token: one for all, or several that take turns: twice as many as clients give each another one
    when it comes again; None: the target is bare TCP and just sends frames. resume: a position to
    begin at, whose first record has number 0 in every partition; without one, numbers begin with
    the first frame that comes. path: with the query, if any; headers: whole lines. first: a text
    message to send once connected. prefix: how many bytes a message has before {"type":"data", and
    suffix after it; with a suffix, one WebSocket message may hold several of them, one a line.
    concurrency: how many handshakes are under way at once. address: they come from 127.0.0.(2 +
    address) on, CLIENTS_PER_ADDRESS from each, so that several of these do not run out of ports.
    sessions: whoever comes again over TLS offers the session that it had.
    """

    def __init__(
        self,
        port: int,
        clients: int,
        token: str | Sequence[str] | None,
        resume: str | None = None,
        *,
        tls: bool = False,
        path: str = "/ws/energy?subscribe=energy",
        headers: Sequence[str] = (),
        first: str | None = None,
        prefix: int = 0,
        suffix: int = 0,
        concurrency: int = 256,
        address: int = 0,
        sessions: bool = True,
    ) -> None:
        options: dict[str, Any] = {
            "port": port,
            "clients": clients,
            "partitions": PARTITIONS,
            "concurrency": concurrency,
            "address": address,
            "bare": int(token is None),
            "tls": int(tls),
            "sessions": int(sessions),
            "prefix": prefix,
            "suffix": suffix,
            "p_at": ENVELOPE + P_AT,
            "n_at": ENVELOPE + N_AT,
            "n_digits": N_DIGITS,
            "t_at": ENVELOPE + T_AT,
            "t_digits": T_DIGITS,
            "request": _request(port, path, headers),
        }
        options |= {} if resume is None else {"resume": resume}
        options |= {} if first is None else {"first": first}
        words = [str(word) for pair in options.items() for word in pair]
        self._process = subprocess.Popen(
            [program("load", "ssl", "crypto", "z"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self.checked = 0
        if token is not None:
            # Not as options: those are for everybody to see.
            tokens = [token] if isinstance(token, str) else token
            self._say("\n".join([*tokens, ".", ""]))

    def __enter__(self) -> Self:
        return self.ready()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ready(self) -> Self:
        """Wait until every client is connected and subscribed; RuntimeError if one cannot be."""
        failed = self.settled()
        if failed:
            raise RuntimeError(f"{failed} clients could not connect")
        return self

    def settled(self) -> int:
        """Wait until every client is ready or has failed; how many have failed."""
        told = self._line()
        assert told["ready"]
        return int(told["failed"])

    def counts(self, *, restart: bool = False) -> dict[str, Any]:
        """What the clients have seen so far; restart: forget delays and spreads afterwards.

        delays: from writing a record to receiving it, microseconds, of some frames. spreads: from
        the first client that had a record to the last one, microseconds, of some records.
        """
        self._say("restart\n" if restart else "counts\n")
        counts = self._line()
        for message in counts.pop("samples"):
            _check(message)
            self.checked += 1
        return {**counts, "checked": self.checked}

    def all_have(self, frames: int) -> dict[str, Any]:
        """Wait until every client has at least so many frames; the counts then."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            counts = self.counts()
            if counts["least"] >= frames or counts["closed"] or time.monotonic() > deadline:
                return counts
            time.sleep(0.2)

    def drop(self) -> None:
        """Close every connection without a closing handshake, as a network that breaks does."""
        self._say("drop\n")
        assert self._line() == {"dropped": True}

    def again(self, epoch: str, frames: int) -> None:
        """Connect all again at once, each from its own position; `settled` waits for `frames`."""
        self._say(f"again {epoch} {frames}\n")

    def times(self) -> dict[str, list[int]]:
        """Microseconds from the first connect, of every client: upgraded, subscribed, caught_up."""
        self._say("times\n")
        return self._line()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_SECONDS)
        self._process.stdout.close()

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the load generator has ended: see above"
        found: dict[str, Any] = orjson.loads(line)
        return found


def _request(port: int, path: str, headers: Sequence[str]) -> str:
    """A handshake, with places (%s) for the position to resume from and for the token."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        "GET " + path.replace("%", "%%") + "%s HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        "Authorization: Bearer %s",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""])


def _check(message: dict[str, Any]) -> None:
    """A data message as energyws sends it, or as a peer repeats it."""
    assert list(message) == ["type", "stream", "timestamp", "data", "id"], message
    partition, number = int(message["data"]["p"]), int(message["data"]["n"])
    assert int(message["id"].partition("-")[2].split(".")[partition]) >= number + 1, message
