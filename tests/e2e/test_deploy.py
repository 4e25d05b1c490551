"""What operators do to a running service: nobody is refused, and nobody misses anything."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Self

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.service import PATIENCE_SECONDS, Records, Service, Traffic, eventually, token
from tests.watchers import Watchers

pytestmark = pytest.mark.e2e


class Newcomers:
    """Connect all the time, one after the other, and note whoever is not let in."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.welcome = 0
        self.refused: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {token('newcomer')}"}
        while not self._stop.is_set():
            try:
                async with connect(self._url, additional_headers=headers):
                    self.welcome += 1
            except ConnectionClosed:
                # It was let in, and sent on at once.
                self.welcome += 1
            except (OSError, InvalidHandshake, TimeoutError) as error:
                self.refused.append(repr(error))


def names(service: Service, state: str = "ready") -> list[str]:
    """The children that are in this state."""
    return sorted(c["name"] for c in service.admin("/workers")[1] if c["state"] == state)


def post(service: Service, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    """Status and JSON of a POST to the admin port."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.admin_port}{path}",
        data=json.dumps(body).encode(),
        headers=headers,
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def workers(count: int) -> list[str]:
    return ["consumer", *(f"worker-{slot}" for slot in range(count))]


def settled(service: Service, count: int) -> None:
    """Wait until so many workers are ready, and no other child is there."""
    eventually(
        lambda: names(service) == workers(count) and len(service.children()) == count + 1,
        f"{count} workers and nobody else",
    )


def test_scaling_refuses_nobody_and_loses_nothing(
    serve: Callable[..., Service], records: Records
) -> None:
    service = serve(server={"workers": 1}).ready()
    with Watchers(service.url, 40) as watchers, Newcomers(service.url) as newcomers:
        with Traffic(records) as traffic:
            assert post(service, "/workers", {"workers": 4}) == (200, {"workers": 4, "before": 1})
            settled(service, 4)
            served = newcomers.welcome + 20
            eventually(lambda: newcomers.welcome > served, "newcomers are served")
            service.signal(signal.SIGTTOU)
            service.wait_logged("scaling workers=3")
            service.signal(signal.SIGTTOU)
            settled(service, 2)
            traffic.more(50)
            service.signal(signal.SIGTTIN)
            settled(service, 3)
        watchers.have(list(range(records.sent)))
    assert newcomers.refused == []
    assert not service.logged("killing")


def test_all_processes_are_replaced_and_nobody_notices(
    serve: Callable[..., Service], records: Records
) -> None:
    service = serve().ready()
    before = {name: process.pid for name, process in service.children().items()}
    with Watchers(service.url, 40) as watchers, Newcomers(service.url) as newcomers:
        with Traffic(records) as traffic:
            service.signal(signal.SIGUSR2)
            for name in before:
                service.wait_logged("child replaced", f"child={name}")
            settled(service, 2)
            traffic.more(50)
        watchers.have(list(range(records.sent)))
        after = {name: process.pid for name, process in service.children().items()}
    assert after.keys() == before.keys()
    assert not before.items() & after.items()
    assert newcomers.refused == []
    assert not service.logged(" ERROR ")
