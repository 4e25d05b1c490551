"""Instances of energyws.client that note every record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Self

from energyws.client import Client, Gap, Reading
from energyws.testing import PARTITIONS, PATIENCE_SECONDS, eventually, token


class Watchers:
    """Clients that note every record, in a thread with an event loop of its own."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self.numbers: list[list[int]] = [[] for _ in range(count)]
        self.gaps: list[Gap] = []
        self.clients: list[Client] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        for numbers in self.numbers:
            client = Client(self._url, token=token())
            self.clients.append(client)
            self._submit(self._start(client, numbers))
        eventually(
            lambda: all(client.positions for client in self.clients), "all watchers subscribed"
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._submit(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()

    def have(self, expected: list[int], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until each client has these records, each once and in the order of its partition."""
        eventually(
            lambda: all(len(numbers) >= len(expected) for numbers in self.numbers),
            "every watcher has every record",
            seconds,
        )
        for numbers in self.numbers:
            assert sorted(numbers) == expected
            for partition in range(PARTITIONS):
                own = [n for n in numbers if n % PARTITIONS == partition]
                assert own == sorted(own)
        assert self.gaps == []

    def _submit(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    async def _start(self, client: Client, numbers: list[int]) -> None:
        self._tasks.append(asyncio.create_task(self._watch(client, numbers)))

    async def _watch(self, client: Client, numbers: list[int]) -> None:
        async for message in client:
            if isinstance(message, Gap):
                self.gaps.append(message)
            elif isinstance(message, Reading):
                numbers.append(message.data["n"])

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
