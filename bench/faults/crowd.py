"""The checking clients: hundreds of energyws.client.Client in separate processes.

Crowd runs `python -m bench.faults.crowd`, which reads one JSON command per line from stdin, answers
each with one line, and ends when stdin is closed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import orjson
import uvloop

from bench.faults.ledger import Ledger
from bench.faults.record import check
from bench.kit.line_process import LineProcess
from bench.kit.record import PARTITIONS
from energyws.client import Client, Gap, Message
from energyws.protocol.position import BadPosition, parse

CLIENTS_PER_PROCESS: Final = 250
READY_SECONDS: Final = 60.0
CLOSE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01
_MOST_NAMED: Final = 5


class _Counting(Client):
    """A client that counts its attempts to connect and records when they succeeded."""

    attempts = 0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.connected_at: list[float] = []

    async def _connect(self) -> Any:
        self.attempts += 1
        connection = await super()._connect()
        self.connected_at.append(time.monotonic())
        return connection

    async def bounce(self) -> None:
        """Close the connection, so that the client reconnects."""
        if self._connection is not None:
            await self._connection.close()


class _Watcher:
    def __init__(
        self, url: str, bearer: Callable[[], str], resume: dict[str, str] | None = None
    ) -> None:
        self.client = _Counting(url, token=bearer, resume=resume)
        self.ledger = Ledger([0] * PARTITIONS)
        self.heard_at = time.monotonic()
        self.silence = 0.0
        self._task = asyncio.create_task(self._watch())

    def behind(self, targets: Sequence[int]) -> bool:
        return any(map(int.__lt__, self.ledger.next, targets))

    async def stop(self) -> None:
        while not self._task.done():
            # Repeated, since wait_for() can swallow a cancellation (CPython before 3.12).
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=_POLL_SECONDS)
        await self.client.close()

    async def _watch(self) -> None:
        try:
            async for message in self.client:
                self._take(message)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.ledger.refused = f"{type(error).__name__}: {error} ({place.name}: {place.line})"

    def _take(self, message: Message) -> None:
        now = time.monotonic()
        self.silence = max(self.silence, now - self.heard_at)
        self.heard_at = now
        if isinstance(message, Gap):
            try:
                offsets = parse(message.position).offsets
            except BadPosition:
                self.ledger.corrupt.append(f"a Gap with position {message.position[:100]!r}")
                return
            self.ledger.add_gap(message.reason, message.missed, offsets)
            return
        try:
            partition, number = check(message.data)
        except ValueError as error:
            self.ledger.corrupt.append(str(error))
        else:
            self.ledger.take(partition, number)


class _Clients:
    """The clients of one process. The public methods are the commands."""

    def __init__(self, url: str, first: int, count: int, bearer: str) -> None:
        self._url = url
        self._first = first
        self._bearer = bearer
        self._watchers = [_Watcher(url, self._token) for _ in range(count)]
        self._retired: list[tuple[int, Ledger]] = []
        self._origin: dict[str, str] = {}
        self._frames = 0
        self._connects = 0
        self._failed = 0

    def _token(self) -> str:
        return self._bearer

    async def bearer(self, bearer: str) -> dict[str, Any]:
        self._bearer = bearer
        return {}

    async def ready(self) -> dict[str, Any]:
        deadline = time.monotonic() + READY_SECONDS
        while not all(watcher.client.positions for watcher in self._watchers):
            if time.monotonic() > deadline:
                return {"ready": False}
            await asyncio.sleep(_POLL_SECONDS)
        self._origin = self._watchers[0].client.positions
        return {"ready": True}

    async def mark(self) -> dict[str, Any]:
        """Report, then start counting problems and silences anew."""
        seen = await self.report()
        self._retired.clear()
        for watcher in self._watchers:
            watcher.ledger.forget()
            watcher.silence = 0.0
            watcher.client.connected_at.clear()
        return seen

    async def report(self) -> dict[str, Any]:
        """Totals, and every client with a problem."""
        now = time.monotonic()
        ledgers = [*enumerate(w.ledger for w in self._watchers), *self._retired]
        failures = []
        for place, ledger in ledgers:
            if (failure := ledger.report()) is not None:
                failures.append({"client": self._first + place, **failure})
        return {
            "frames": self._frames + sum(w.ledger.frames for w in self._watchers),
            "connects": self._connects + sum(w.client.connects for w in self._watchers),
            "failed": self._failed + sum(_failed(w.client) for w in self._watchers),
            "connected_at": [at for w in self._watchers for at in w.client.connected_at],
            "silences": [max(w.silence, now - w.heard_at) for w in self._watchers],
            "failures": failures,
        }

    async def reach(self, targets: list[int], seconds: float) -> dict[str, Any]:
        """Wait until all clients have everything below the targets; the time when they do."""
        deadline = time.monotonic() + seconds
        while any(watcher.behind(targets) for watcher in self._watchers):
            if time.monotonic() > deadline:
                return {"behind": self._behind(targets)}
            await asyncio.sleep(_POLL_SECONDS)
        return {"at": time.monotonic()}

    async def bounce(self, clients: list[int]) -> dict[str, Any]:
        """Make these clients close their connections and reconnect."""
        mine = [self._watchers[n - self._first] for n in clients if self._mine(n)]
        await asyncio.gather(*(watcher.client.bounce() for watcher in mine))
        return {}

    async def renew(self, clients: list[int]) -> dict[str, Any]:
        """Replace these with clients that start from the first record."""
        for place in (n - self._first for n in clients if self._mine(n)):
            old = self._watchers[place]
            await old.stop()
            self._retired.append((place, old.ledger))
            self._frames += old.ledger.frames
            self._connects += old.client.connects
            self._failed += _failed(old.client)
            self._watchers[place] = _Watcher(self._url, self._token, self._origin)
        return {}

    async def stop(self) -> None:
        await asyncio.gather(*(watcher.stop() for watcher in self._watchers))

    def _mine(self, client: int) -> bool:
        return 0 <= client - self._first < len(self._watchers)

    def _behind(self, targets: Sequence[int]) -> list[str]:
        behind = [
            f"client {self._first + place} is at {watcher.ledger.next}"
            + (f" and ended: {watcher.ledger.refused}" if watcher.ledger.refused else "")
            for place, watcher in enumerate(self._watchers)
            if watcher.behind(targets)
        ]
        return [*behind[:_MOST_NAMED], f"({len(behind)} clients in total)"]


def _failed(client: _Counting) -> int:
    return client.attempts - client.connects


class Crowd:
    """Clients numbered from 0, in as few processes as possible. bearer: the token that all use."""

    def __init__(self, url: str, clients: int, bearer: str) -> None:
        command = [sys.executable, "-m", "bench.faults.crowd", url]
        self._processes = [
            LineProcess(
                [*command, str(first), str(min(CLIENTS_PER_PROCESS, clients - first))],
                token=bearer,
                new_session=True,
            )
            for first in range(0, clients, CLIENTS_PER_PROCESS)
        ]
        self.clients = clients

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            process.close(CLOSE_SECONDS)

    def ready(self) -> None:
        if not all(answer["ready"] for answer in self._ask("ready")):
            raise AssertionError(f"not within {READY_SECONDS:g} s: every client is subscribed")

    def mark(self) -> dict[str, Any]:
        """The report so far; the next one starts here."""
        return _merged(self._ask("mark"))

    def report(self) -> dict[str, Any]:
        """Totals of frames, connects and failed attempts to connect since the start.

        Since `mark`: problems, each client's longest wait for a record, and the monotonic times of
        all connects.
        """
        return _merged(self._ask("report"))

    def reach(self, targets: list[int], seconds: float) -> float:
        """Wait until all clients have everything below these numbers; the monotonic time then."""
        answers = self._ask("reach", targets=targets, seconds=seconds)
        if late := [client for answer in answers for client in answer.get("behind", ())]:
            raise AssertionError(f"not within {seconds:.1f} s at {targets}: {'; '.join(late)}")
        return max(float(answer["at"]) for answer in answers)

    def bounce(self, clients: Sequence[int]) -> None:
        """Make these clients close their connections and reconnect."""
        self._ask("bounce", clients=list(clients))

    def renew(self, clients: Sequence[int]) -> None:
        """Replace these clients with others that resume from before the first record."""
        self._ask("renew", clients=list(clients))

    def bearer(self, bearer: str) -> None:
        self._ask("bearer", bearer=bearer)

    def _ask(self, command: str, **arguments: Any) -> list[dict[str, Any]]:
        line = orjson.dumps({"command": command, **arguments}).decode()
        for process in self._processes:
            process.send(f"{line}\n")
        return [process.answer() for process in self._processes]


def _merged(answers: list[dict[str, Any]]) -> dict[str, Any]:
    sums = ("frames", "connects", "failed")
    lists = ("connected_at", "silences", "failures")
    return {
        **{name: sum(answer[name] for answer in answers) for name in sums},
        **{name: [one for answer in answers for one in answer[name]] for name in lists},
    }


async def _obey(url: str, first: str, count: str) -> None:
    clients = _Clients(url, int(first), int(count), os.environ["WS_TOKEN"])
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
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
