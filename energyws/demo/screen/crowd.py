"""The demo's own clients."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from energyws.client import Client, State
from energyws.demo.screen.model import Model


async def crowd(url: str, token: Callable[[], str], clients: int, model: Model) -> None:
    """Have the clients tell the model what they receive, until cancelled.

    token: called for each connection. Raises Refused where the service refuses them.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(_follow(url, token, number, model))
    except ExceptionGroup as errors:
        # The service refuses all of them for one reason.
        raise errors.exceptions[0] from None


async def _follow(url: str, token: Callable[[], str], number: int, model: Model) -> None:
    loop = asyncio.get_running_loop()

    def changed(state: State, reason: str) -> None:
        model.change(number, live=state == "live", now=loop.time())

    client = Client(url, token=token, last=1, on_state=changed)
    async with contextlib.aclosing(client.messages()) as messages:
        async for message in messages:
            model.take(number, message, loop.time(), time.time())
