"""The processes of the demo."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import IO

import pytest

from energyws.control.admin.client import AdminClient
from energyws.demo.parts import DemoError, Parts, Plan, running
from energyws.settings import Admin
from energyws.testing import eventually
from energyws.testing.service import SECRET

pytestmark = [pytest.mark.e2e, pytest.mark.edge]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[IO[bytes]]:
    with open(tmp_path / "log", "wb", buffering=0) as file:
        yield file


def parts(log: IO[bytes], workers: int = 1) -> AbstractAsyncContextManager[Parts]:
    plan = Plan(1, workers, "127.0.0.1", 0, 0, SECRET)
    return running(plan, Path(log.name).parent, log, lambda line: None)


def test_only_workers_of_the_service_are_killed(log: IO[bytes]) -> None:
    async def go() -> None:
        async with parts(log) as started:
            admin = AdminClient(Admin(port=started.admin_port))
            first = await asyncio.to_thread(worker_other_than, None, admin)
            assert not started.kill_worker(os.getpid())
            assert started.kill_worker(first)
            second = await asyncio.to_thread(worker_other_than, first, admin)
            assert second != first
            assert not started.kill_worker(first)

    asyncio.run(go())


def worker_other_than(pid: int | None, admin: AdminClient) -> int:
    """Wait until such a worker is ready; its process id."""

    def ready() -> int | None:
        workers = [each for each in admin.get("/status")["processes"] if each.get("slot") == 0]
        return next((w["pid"] for w in workers if w["state"] == "ready" and w["pid"] != pid), None)

    found: int = eventually(ready, "a worker")
    return found


def test_broker_that_has_ended_is_noticed(log: IO[bytes]) -> None:
    async def go() -> None:
        async with parts(log) as started:
            started._broker.kill()
            async with asyncio.timeout(10):
                await started.watch()

    with pytest.raises(DemoError, match="the embedded broker has ended"):
        asyncio.run(go())


def test_service_that_does_not_start_is_an_error(log: IO[bytes]) -> None:
    async def go() -> None:
        async with parts(log, workers=0):
            raise AssertionError

    with pytest.raises(DemoError, match="did not start"):
        asyncio.run(go())
    assert "server.workers" in Path(log.name).read_text()
