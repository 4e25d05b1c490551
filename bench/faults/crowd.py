"""The checking clients: hundreds, over WebSocket and SSE, in separate processes.

Crowd runs `python -m bench.faults.crowd`, which reads one JSON command per line from stdin, answers
each with one line, and ends when stdin is closed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson
import uvloop

from bench.faults.clients.keyed import Holder, KeyedEventWatcher, KeyedWebSocketWatcher
from bench.faults.clients.watchers import STREAM, EventWatcher, Watcher, WebSocketWatcher
from bench.faults.keys import Seat
from bench.faults.ledger import Ledger
from bench.kit.line_process import LineProcess

CLIENTS_PER_PROCESS: Final = 250
# The tokens of all keyed clients of a process come in one command.
COMMAND_BYTES: Final = 1 << 24
READY_SECONDS: Final = 60.0
CLOSE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01
_MOST_NAMED: Final = 5
_SNAPSHOTS: Final = 3
_COUNTED: Final = ("frames", "sse_frames", "keyed_frames", "connects", "failed")


def takes_events(client: int, percent: int) -> bool:
    """Whether the client with this number uses SSE; `percent` of all do, evenly spread."""
    return (client + 1) * percent // 100 > client * percent // 100


def events_url(url: str) -> str:
    """The event stream of the service with this WebSocket URL."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}[parts.scheme]
    return f"{scheme}://{parts.netloc}/sse/{STREAM}"


class _Clients:
    """The clients of one process, which are all keyed or none. Public methods are the commands."""

    def __init__(self, url: str, first: int, count: int, percent: int, bearer: str) -> None:
        self._url = url
        self._first = first
        self._percent = percent
        self._bearer = bearer
        # Of keyed clients.
        self._holders: list[Holder] = []
        self._watchers = [self._make(place) for place in range(count)]
        self._retired: list[tuple[int, Ledger]] = []
        self._retired_counts: Counter[str] = Counter()
        self._origin: str | None = None

    def _token(self) -> str:
        return self._bearer

    async def bearer(self, bearer: str) -> dict[str, Any]:
        self._bearer = bearer
        return {}

    async def seat(self, seats: list[dict[str, Any]]) -> dict[str, Any]:
        """Begin with a keyed client on each of these."""
        for one in seats:
            tokens = one.pop("tokens")
            self._holders.append(Holder(Seat(**one), tokens))
        self._watchers = [self._make(place) for place in range(len(seats))]
        return {}

    async def journals(self) -> dict[str, Any]:
        """What each keyed client has received since the last time, with its number."""
        return {
            "journals": [
                [self._first + place, holder.journal.drain()]
                for place, holder in enumerate(self._holders)
            ]
        }

    async def ready(self) -> dict[str, Any]:
        deadline = time.monotonic() + READY_SECONDS
        while not all(watcher.position for watcher in self._watchers):
            if time.monotonic() > deadline:
                waiting = [place for place, one in enumerate(self._watchers) if not one.position]
                return {"ready": False, "behind": self._states(waiting)}
            await asyncio.sleep(_POLL_SECONDS)
        self._origin = self._origin or self._watchers[0].position
        return {"ready": True}

    async def mark(self) -> dict[str, Any]:
        """Report, then start counting problems and silences anew."""
        seen = await self.report()
        self._retired.clear()
        for watcher in self._watchers:
            watcher.ledger.forget()
            watcher.silence = 0.0
            watcher.connected_at.clear()
        return seen

    async def report(self) -> dict[str, Any]:
        """Totals, and every client with a problem."""
        now = time.monotonic()
        ledgers = [*enumerate(w.ledger for w in self._watchers), *self._retired]
        failures = []
        for place, ledger in ledgers:
            if (failure := ledger.report()) is not None:
                failures.append({"client": self._name(place), **failure})
        counts = Counter(self._retired_counts)
        for watcher in self._watchers:
            counts.update(_counts(watcher))
        silences: dict[str, list[float]] = {"websocket": [], "sse": [], "keyed": []}
        for watcher in self._watchers:
            silences[watcher.kind].append(max(watcher.silence, now - watcher.heard_at))
        return {
            **{name: counts[name] for name in _COUNTED},
            "connected_at": [at for watcher in self._watchers for at in watcher.connected_at],
            "silences": silences["websocket"],
            "sse_silences": silences["sse"],
            "failures": failures,
        }

    async def reach(self, targets: list[int], offsets: list[int], seconds: float) -> dict[str, Any]:
        """Wait until all clients have everything below the targets; the time when they do."""
        deadline = time.monotonic() + seconds
        while any(watcher.behind(targets, offsets) for watcher in self._watchers):
            if time.monotonic() > deadline:
                return {"behind": self._behind(targets, offsets)}
            await asyncio.sleep(_POLL_SECONDS)
        return {"at": time.monotonic()}

    async def bounce(self, clients: list[int]) -> dict[str, Any]:
        """Make these clients close their connections and reconnect."""
        mine = [self._watchers[n - self._first] for n in clients if self._mine(n)]
        await asyncio.gather(*(watcher.bounce() for watcher in mine))
        return {}

    async def renew(self, clients: list[int]) -> dict[str, Any]:
        """Replace these with clients that start from the first record."""
        for place in (n - self._first for n in clients if self._mine(n)):
            old = self._watchers[place]
            await old.stop()
            self._retired.append((place, old.ledger))
            self._retired_counts.update(_counts(old))
            if self._holders:
                self._holders[place].journal.anew()
            self._watchers[place] = self._make(place, self._origin)
        return {}

    async def stop(self) -> None:
        await asyncio.gather(*(watcher.stop() for watcher in self._watchers))

    def _make(self, place: int, origin: str | None = None) -> Watcher:
        events = takes_events(self._first + place, self._percent)
        url = events_url(self._url) if events else self._url
        if self._holders:
            keyed = KeyedEventWatcher if events else KeyedWebSocketWatcher
            return keyed(url, self._holders[place], origin)
        plain = EventWatcher if events else WebSocketWatcher
        return plain(url, self._token, origin)

    def _name(self, place: int) -> str:
        client = self._first + place
        return f"{client} (SSE)" if takes_events(client, self._percent) else str(client)

    def _mine(self, client: int) -> bool:
        return 0 <= client - self._first < len(self._watchers)

    def _behind(self, targets: Sequence[int], offsets: Sequence[int]) -> list[str]:
        watchers = enumerate(self._watchers)
        return self._states([place for place, one in watchers if one.behind(targets, offsets)])

    def _states(self, places: Sequence[int]) -> list[str]:
        states = []
        for place in places[:_MOST_NAMED]:
            one = self._watchers[place]
            told = f"client {self._name(place)} is at {one.ledger.next}, position {one.position}"
            states.append(told + f", and ended: {one.ledger.refused}" * bool(one.ledger.refused))
        return [*states, f"({len(places)} clients in total)"]


def _counts(watcher: Watcher) -> dict[str, int]:
    frames = watcher.ledger.frames
    return {
        "frames": frames,
        "sse_frames": frames if watcher.kind == "sse" else 0,
        "keyed_frames": frames if watcher.kind == "keyed" else 0,
        "connects": watcher.connects,
        "failed": watcher.attempts - watcher.connects,
    }


class Crowd:
    """Clients numbered from 0, in as few processes as possible.

    bearer: the token that all use. sse: how many percent of them use Server-Sent Events. seats: of
    as many keyed clients more, each with its tokens.
    """

    def __init__(
        self,
        url: str,
        clients: int,
        bearer: str,
        sse: int = 0,
        seats: Sequence[tuple[Seat, Sequence[str]]] = (),
    ) -> None:
        def process(first: int, count: int) -> LineProcess:
            command = [sys.executable, "-m", "bench.faults.crowd", url]
            command += map(str, (sse, first, count))
            return LineProcess(command, token=bearer, new_session=True)

        self._processes = [
            process(first, min(CLIENTS_PER_PROCESS, clients - first))
            for first in range(0, clients, CLIENTS_PER_PROCESS)
        ]
        self.clients = clients + len(seats)
        self.sse_clients = sum(takes_events(client, sse) for client in range(clients))
        self.keyed_clients = len(seats)
        self._with_snapshots = [clients + at for at, (seat, _) in enumerate(seats) if seat.snapshot]
        for begin in range(0, len(seats), CLIENTS_PER_PROCESS):
            self._processes.append(process(clients + begin, 0))
            some = seats[begin : begin + CLIENTS_PER_PROCESS]
            self._processes[-1].ask(
                _line("seat", seats=[{**asdict(seat), "tokens": tokens} for seat, tokens in some])
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            process.close(CLOSE_SECONDS)

    def ready(self) -> None:
        if late := _behind(self._ask("ready")):
            raise AssertionError(f"not within {READY_SECONDS:g} s: all are subscribed: {late}")

    def mark(self) -> dict[str, Any]:
        """The report so far; the next one starts here."""
        return _merged(self._ask("mark"))

    def report(self) -> dict[str, Any]:
        """Totals of frames, connects and failed attempts to connect since the start.

        Since `mark`: problems, each client's longest wait for a record (`silences` over WebSocket,
        `sse_silences`), and the monotonic times of all connects.
        """
        return _merged(self._ask("report"))

    def reach(
        self, targets: list[int], seconds: float, offsets: Sequence[int] | None = None
    ) -> float:
        """Wait until all clients have everything below these numbers; the monotonic time then.

        offsets: those after these records, for clients that get a snapshot meanwhile.
        """
        past = [sys.maxsize] * len(targets) if offsets is None else offsets
        answers = self._ask("reach", targets=targets, offsets=past, seconds=seconds)
        if late := _behind(answers):
            raise AssertionError(f"not within {seconds:.1f} s at {targets}: {late}")
        return max(float(answer["at"]) for answer in answers)

    def bounce(self, clients: Sequence[int]) -> None:
        """Make these clients close their connections and reconnect."""
        self._ask("bounce", clients=list(clients))

    def renew(self, clients: Sequence[int]) -> None:
        """Replace these clients with others that resume from before the first record."""
        self._ask("renew", clients=list(clients))

    def snapshots(self, rng: random.Random) -> None:
        """Replace some of the clients that begin with a snapshot, and wait until all are ready."""
        if self._with_snapshots:
            most = min(_SNAPSHOTS, len(self._with_snapshots))
            self.renew(rng.sample(self._with_snapshots, most))
            self.ready()

    def bearer(self, bearer: str) -> None:
        self._ask("bearer", bearer=bearer)

    def journals(self) -> dict[int, list[list[Any]]]:
        """By the number of a keyed client: what it has received since the last call."""
        return {
            number: entries
            for answer in self._ask("journals")
            for number, entries in answer["journals"]
        }

    def _ask(self, command: str, **arguments: Any) -> list[dict[str, Any]]:
        line = _line(command, **arguments)
        for process in self._processes:
            process.send(f"{line}\n")
        return [process.answer() for process in self._processes]


def _line(command: str, **arguments: Any) -> str:
    return orjson.dumps({"command": command, **arguments}).decode()


def _behind(answers: list[dict[str, Any]]) -> str:
    return "; ".join(client for answer in answers for client in answer.get("behind", ()))


def _merged(answers: list[dict[str, Any]]) -> dict[str, Any]:
    lists = ("connected_at", "silences", "sse_silences", "failures")
    return {
        **{name: sum(answer[name] for answer in answers) for name in _COUNTED},
        **{name: [one for answer in answers for one in answer[name]] for name in lists},
    }


async def _obey(url: str, percent: str, first: str, count: str) -> None:
    clients = _Clients(url, int(first), int(count), int(percent), os.environ["WS_TOKEN"])
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(COMMAND_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command = orjson.loads(line)
        answer = await getattr(clients, command.pop("command"))(**command)
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        sys.stdout.buffer.flush()
    await clients.stop()


def main() -> None:
    """Serve the parent process until it closes its end of the pipe."""
    uvloop.run(_obey(*sys.argv[1:]))


if __name__ == "__main__":
    main()
