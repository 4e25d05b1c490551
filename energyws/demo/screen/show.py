"""The demo with a screen: clients and samples feed the model, and the screen draws it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console

from energyws.control.admin.client import AdminClient, AdminRequestFailed
from energyws.control.status.model import Document, view
from energyws.control.status.service import look
from energyws.demo.screen.crowd import crowd
from energyws.demo.screen.links import Links
from energyws.demo.screen.live import Screen
from energyws.demo.screen.model import Model
from energyws.settings import Admin

SAMPLE_SECONDS: Final = 0.5
# As in `energyws top`: rates are differences over this time.
WINDOW_SECONDS: Final = 5.0


class Show:
    """token: called for each connection. kill_worker: see Screen."""

    def __init__(
        self,
        links: Links,
        token: Callable[[], str],
        clients: int,
        kill_worker: Callable[[int], bool],
    ) -> None:
        self._links = links
        self._token = token
        self._clients = clients
        self._kill_worker = kill_worker
        self._model = Model(clients, asyncio.get_running_loop().time())

    async def run(self, console: Console, log: str, remarks: Sequence[str]) -> None:
        """Until the user quits. log: the file's path. Raises Refused as the clients do."""
        screen = Screen(console, self._model, self._links, self._kill_worker, log, remarks)
        works = (
            screen.run(),
            crowd(self._links.websocket, self._token, self._clients, self._model),
            sample(self._links.admin_port, self._model),
        )
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            # Raises what ended it.
            task.result()

    def outcome(self) -> str:
        """What is left to say when the screen is gone."""
        end = self._model.view(asyncio.get_running_loop().time(), time.time())
        return (
            f"{self._clients} clients received {end.received:,} readings: {end.lost:,} lost, "
            f"{end.repeated:,} repeated; workers killed: {len(end.kills)}"
        )


async def sample(admin_port: int, model: Model) -> None:
    """Have the model follow the service's own view of itself, until cancelled."""
    loop = asyncio.get_running_loop()
    admin = AdminClient(Admin(port=admin_port))
    documents: deque[tuple[float, Document]] = deque()
    while True:
        # Without an answer the screen keeps the last one; `Parts.watch` notices a service's end.
        with contextlib.suppress(AdminRequestFailed):
            document = await asyncio.to_thread(look, admin)
            now = loop.time()
            documents.append((now, document))
            while now - documents[0][0] > WINDOW_SECONDS:
                documents.popleft()
            before = documents[0][1] if len(documents) > 1 else None
            model.sample(view(document, before), now)
        await asyncio.sleep(SAMPLE_SECONDS)
