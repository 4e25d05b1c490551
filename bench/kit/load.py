"""Thousands of checking clients in a separate process: the interface of load.c.

Its options are arguments; it reads tokens, then commands, from stdin, one per line:

    counts        counts of everything that the clients have received so far
    restart       the same, then discard the delays and spreads
    drop          close every connection without a close frame
    again E N     reconnect all, each with resume=E-<its position>; ready once each has N more
    times         microseconds from the first connect to each client's 101 or 200, its first message
                  ("subscribed"), and the N-th frame after `again`, or the end of its snapshot
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from bench.kit.build import program
from bench.kit.handshake import events_request, upgrade_request
from bench.kit.line_process import LineProcess
from bench.kit.record import ENVELOPE, N_AT, N_DIGITS, P_AT, PARTITIONS, STAMP_AT, T_AT, T_DIGITS
from energyws.testing import eventually

CLIENTS_PER_ADDRESS: Final = 10_000
PATIENCE_SECONDS: Final = 300.0
_OFFER: Final = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


class Load:
    """Clients of one port; `ready` waits until they are connected and subscribed.

    token: one for all clients, or several that they use in turn: with twice as many tokens as
    clients, each client uses a new one when it reconnects. None: the target is bare TCP and only
    sends frames.
    resume: the position to start from, at which number 0 is due in every partition; None: the
    first frame of a partition sets its first number.
    path: including the query. events: the path is that of an event stream.
    first: a text message that each client sends once connected.
    prefix: the number of bytes before {"type":"data" in a message. suffix: those after it; with a
    suffix, one WebSocket message may hold several messages, one per line.
    concurrency: how many handshakes are in progress at a time.
    address: clients connect from 127.0.0.(2 + address) upwards, CLIENTS_PER_ADDRESS from each, so
    that several generators do not run out of ports.
    sessions: a client that reconnects over TLS offers its previous session.
    returning: a client whose connection ends comes back, when `reconnect` says or within half a
    second, from the last position that it was told.
    sample: measure the delay of one frame in `sample`. stamps: also measure delays from the
    frames' timestamps. offer: the clients offer compression.
    count: 1: do not read the records; 2: nor any other message, since the server sends no
    "subscribed" and may compress with context takeover.
    snapshot: each client gets one of so many keys, `first_key` being the first one's of the first
    client, and is ready at its end.
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
        events: bool = False,
        first: str | None = None,
        prefix: int = 0,
        suffix: int = 0,
        concurrency: int = 256,
        address: int = 0,
        sessions: bool = True,
        returning: bool = False,
        sample: int = 61,
        stamps: bool = False,
        offer: bool = False,
        count: int = 0,
        snapshot: int = 0,
        first_key: int = 0,
    ) -> None:
        # %s marks where load.c inserts the position to resume from, and the token.
        headers = ["Authorization: Bearer %s", *[_OFFER] * offer]
        make = events_request if events else upgrade_request
        request = make(f"{path.replace('%', '%%')}%s", *headers)
        options: dict[str, Any] = {
            "port": port,
            "clients": clients,
            "partitions": PARTITIONS,
            "concurrency": concurrency,
            "address": address,
            "bare": int(token is None),
            "events": int(events),
            "tls": int(tls),
            "sessions": int(sessions),
            "returning": int(returning),
            "prefix": prefix,
            "suffix": suffix,
            "p_at": ENVELOPE + P_AT,
            "n_at": ENVELOPE + N_AT,
            "n_digits": N_DIGITS,
            "t_at": ENVELOPE + T_AT,
            "t_digits": T_DIGITS,
            "stamp_at": STAMP_AT if stamps else 0,
            "sample": sample,
            "count": int(count),
            "snapshot": snapshot,
            "first_key": first_key,
            "request": request,
        }
        options |= {} if resume is None else {"resume": resume}
        options |= {} if first is None else {"first": first}
        words = [str(word) for pair in options.items() for word in pair]
        self._process = LineProcess([program("load", "ssl", "crypto", "z"), *words])
        self.pid = self._process.pid
        self.checked = 0
        if token is not None:
            tokens = [token] if isinstance(token, str) else token
            self._process.send("\n".join([*tokens, ".", ""]))

    def __enter__(self) -> Self:
        return self.ready()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ready(self) -> Self:
        """Wait until every client is connected and subscribed; RuntimeError if one has failed."""
        failed = self.settled()
        if failed:
            raise RuntimeError(f"{failed} clients could not connect")
        return self

    def settled(self) -> int:
        """Wait until every client is ready or has failed; the number that failed."""
        answer = self._process.answer()
        assert answer["ready"]
        return int(answer["failed"])

    def counts(self, *, restart: bool = False) -> dict[str, Any]:
        """Everything that the clients have received so far, as counts.

        foreign: messages of a snapshot with a key that is not the client's.
        restart: discard delays and spreads afterwards. delays: microseconds from writing a record
        to receiving it, of a sample of frames; delays_from_stamp: from the frame's timestamp
        instead, which is Kafka's time of the record. spreads: from the first client that received
        a record to the last one, of a sample of records. away, returned, longest_away_us: of
        returning clients, how many are not back, have come back, and the longest time without
        `subscribed`; failed: their attempts that were refused.
        """
        counts = self._process.ask("restart" if restart else "counts")
        for message in counts.pop("samples"):
            _check(message)
            self.checked += 1
        return {**counts, "checked": self.checked}

    def all_have(self, frames: int) -> dict[str, Any]:
        """Wait until every client has `frames` frames, or one was disconnected; the counts."""
        counts: dict[str, Any] = {}

        def complete() -> bool:
            counts.update(self.counts())
            return bool(counts["least"] >= frames or counts["closed"])

        eventually(complete, f"{frames} frames for each client", PATIENCE_SECONDS, interval=0.2)
        return counts

    def drop(self) -> None:
        """Close every connection without a closing handshake, as a network failure does."""
        assert self._process.ask("drop") == {"dropped": True}

    def again(self, epoch: str, frames: int) -> None:
        """Reconnect all together, each from its own position; `settled` waits for `frames`."""
        self._process.send(f"again {epoch} {frames}\n")

    def times(self) -> dict[str, list[int]]:
        """Microseconds from the first connect, per client: upgraded, subscribed, caught_up."""
        times: dict[str, list[int]] = self._process.ask("times")
        return times

    def close(self) -> None:
        self._process.close()


def exact(counts: Mapping[str, Any], records: int) -> bool:
    """Whether every client received `records` records, each once and in order."""
    complete = counts["least"] == counts["most"] == records
    return complete and not any(counts[name] for name in ("gaps", "duplicates", "closed"))


def _check(message: dict[str, Any]) -> None:
    """Check a data message as sent by energyws or repeated by a peer."""
    keyed = ["key"] if "key" in message else []
    assert list(message) == ["type", "stream", "timestamp", "data", *keyed, "id"], message
    assert message.get("key") == message["data"].get("k"), message
    partition, number = int(message["data"]["p"]), int(message["data"]["n"])
    assert int(message["id"].partition("-")[2].split(".")[partition]) >= number + 1, message
