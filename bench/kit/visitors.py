"""People with the page open, and programs that send requests, in a process of their own.

Visitors runs `python -m bench.kit.visitors`, which reads one JSON command per line from stdin,
answers each with one line, and ends when stdin is closed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import sys
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Self
from urllib.parse import urljoin

import orjson
import uvloop
from websockets.asyncio.client import connect

from bench.kit.handshake import bearer, get_request
from bench.kit.line_process import LineProcess
from bench.kit.measuring import percentiles

PAGE: Final = "/"
# What programs ask for in turn: one record, ten, a hundred. Every fourth request is for the page or
# one of its files.
PATHS: Final = ("/last/energy", "/last/energy?last=10", "/history/energy?last=100")
# What a page asks for when it is opened: an hour in practice, here the same for every round.
HISTORY_MESSAGES: Final = 1000
REQUEST_SECONDS: Final = 30.0
# What HTML and JavaScript modules load from their own server.
_LOADED: Final = re.compile(rb"""(?:src=|href=|from |import )["']([^"'#:]+\.\w+)["']""")


def files_of(path: str, text: bytes) -> set[str]:
    """The paths of the files that the page or module at `path` loads."""
    return {urljoin(path, name.decode()) for name in _LOADED.findall(text)}


class _Visits:
    """The visitors of one block. tokens: they use them in turn."""

    def __init__(self, port: int, tokens: Sequence[str]) -> None:
        self._port = port
        self._tokens = itertools.cycle(tokens)
        self._tasks: set[asyncio.Task[None]] = set()
        self._files = {PAGE}
        self._micros: list[int] = []
        self._responses = self._refused = self._messages = 0
        self._problems: list[str] = []

    async def begin(self, pages: int, rate: float) -> None:
        """Open all pages, wait until they are live, then send `rate` requests a second."""
        opened = [asyncio.Event() for _ in range(pages)]
        for event in opened:
            self._start(self._open(event))
        for event in opened:
            await event.wait()
        if rate:
            self._start(self._send(rate))

    async def end(self) -> dict[str, Any]:
        """Close everything; what they got, and the problems in words."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return {
            "responses": self._responses,
            "refused": self._refused,
            "request_ms": percentiles(self._micros, 50, 99),
            "messages": self._messages,
            "problems": self._problems[:5],
        }

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._problems.append(f"{type(error).__name__}: {error}")

    async def _open(self, is_live: asyncio.Event) -> None:
        """Fetch the page and its files, then follow the stream as the page does."""
        try:
            await self._load()
            headers = {"Authorization": f"Bearer {next(self._tokens)}"}
            url = f"ws://127.0.0.1:{self._port}/ws/energy"
            async with connect(url, additional_headers=headers, max_size=None) as connection:
                subscribe = {"type": "subscribe", "streams": ["energy"], "last": HISTORY_MESSAGES}
                await connection.send(orjson.dumps(subscribe).decode())
                subscribed = orjson.loads(await connection.recv())
                left = subscribed["positions"]["energy"]["replayed"]
                async for _ in connection:
                    self._messages += 1
                    left -= 1
                    if left <= 0:
                        is_live.set()
            raise ConnectionError("the connection of a page was closed")
        finally:
            is_live.set()

    async def _load(self) -> None:
        loaded: set[str] = set()
        wanted = {PAGE}
        while wanted:
            path = wanted.pop()
            loaded.add(path)
            wanted |= files_of(path, await self._fetch(path)) - loaded
        self._files |= loaded

    async def _send(self, rate: float) -> None:
        files = itertools.cycle(sorted(self._files))
        paths = itertools.chain.from_iterable((*PATHS, next(files)) for _ in itertools.count())
        began = time.monotonic()
        for number, path in enumerate(paths):
            await asyncio.sleep(began + number / rate - time.monotonic())
            self._start(self._request(path))

    async def _request(self, path: str) -> None:
        began = time.monotonic()
        await self._fetch(path, bearer(next(self._tokens)))
        self._micros.append(int((time.monotonic() - began) * 1e6))

    async def _fetch(self, path: str, *headers: str) -> bytes:
        """The body of the response, on a connection of its own."""
        async with asyncio.timeout(REQUEST_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                writer.write(get_request(path, "Connection: close", *headers).encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        status = int(head.split(b" ", 2)[1]) if head else 0
        if status == 429:
            # A program asks again later; another request of this bench comes soon enough.
            self._refused += 1
        elif status == 200:
            self._responses += 1
        else:
            raise ConnectionError(f"{path} was answered with {status}")
        return body


class Visitors:
    """tokens: those of their subjects; a worker answers only a few requests of one at a time."""

    def __init__(self, port: int, tokens: Sequence[str]) -> None:
        command = [sys.executable, "-m", "bench.kit.visitors", str(port)]
        self._process = LineProcess(command, token=" ".join(tokens))
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.close()

    def begin(self, pages: int, rate: float) -> None:
        """Open pages, wait until they are live, then send `rate` requests a second until `end`."""
        command = {"pages": pages, "rate": rate}
        self._process.ask(orjson.dumps(command).decode())

    def end(self) -> dict[str, Any]:
        """Close all pages; what they got.

        responses: with status 200. refused: with 429, since a worker answers few requests for
        history at a time. messages: over the pages' WebSockets. request_ms: how long all requests
        but the pages' took. problems: in words.
        """
        answer: dict[str, Any] = self._process.ask("{}")
        return answer


async def _obey(port: int) -> None:
    tokens = os.environ["WS_TOKEN"].split()
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    visits = _Visits(port, tokens)
    while line := await commands.readline():
        answer: dict[str, Any] = {}
        if command := orjson.loads(line):
            visits = _Visits(port, tokens)
            await visits.begin(**command)
        else:
            answer = await visits.end()
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        sys.stdout.buffer.flush()


def main() -> None:
    """Serve the parent process until it closes its end of the pipe."""
    uvloop.run(_obey(int(sys.argv[1])))


if __name__ == "__main__":
    main()
