"""A worker near the memory limit of its control group makes room, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from energyws.process.memory_pressure import Level
from energyws.testing import Records, Service, eventually
from tests.cgroups import group
from tests.clients import bare_socket, open_peer, response_head, unacknowledged, upgrade_request

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

Serve = Callable[..., Service]

STALLED = 6
RECORDS = 100
PAD = "x" * 16_000


def pressure(service: Service) -> int:
    level: int = service.boards()["worker-0"]["memory_pressure"]
    return level


def answer(service: Service) -> str:
    with bare_socket(service) as client:
        client.sendall(upgrade_request(service))
        return response_head(client)


def test_newcomers_are_refused_then_slow_clients_are_closed_and_resume(
    serve: Serve, records: Records
) -> None:
    settings = {"workers": 1, "shed_at_memory_percent": 70, "close_timeout_seconds": 0.5}
    service = serve(server=settings).ready()
    with group() as limited, ExitStack() as clients:
        limited.restart_worker(service)
        honest = clients.enter_context(open_peer(service))
        honest.subscribe()
        slow = []
        for _ in range(STALLED):
            each = clients.enter_context(bare_socket(service))
            each.sendall(upgrade_request(service, query="?subscribe=energy"))
            assert " 101 " in response_head(each)
            slow.append(each)
        records.send(RECORDS, pad=PAD)
        assert sorted(honest.numbers(RECORDS)) == list(range(RECORDS))
        eventually(lambda: all(map(unacknowledged, slow)), "the kernel holds what is not read")

        limited.limit_to(80)
        eventually(lambda: pressure(service) == Level.REFUSING, "the worker refuses")
        refused = answer(service)
        assert " 503 " in refused
        assert "retry-after:" in refused.lower()
        service.wait_logged("short of memory: refusing new clients", "limit_mib=")
        service.wait_logged("connection refused", "reason=short_of_memory")
        assert service.boards()["worker-0"]["connections"] == STALLED + 1

        limited.limit_to(95)
        closing = "short of memory: closing clients that do not read"
        service.wait_logged(closing, "count=")
        eventually(
            lambda: service.boards()["worker-0"]["connections"] == 1, "only who reads is left"
        )
        # What the kernel held for them went with their connections.
        assert not any(map(unacknowledged, slow))
        records.send(10)
        assert len(honest.numbers(10)) == 10

        limited.limit(8 << 30)
        eventually(lambda: pressure(service) == Level.NONE, "there is room again")
        assert " 101 " in answer(service)
        service.wait_logged("memory suffices again")
        with open_peer(service) as again:
            again.subscribe(last=RECORDS + 10)
            assert sorted(again.numbers(RECORDS + 10)) == list(range(RECORDS + 10))
        closed = service.logged("WebSocket client disconnected", "code=4008 by=server")
        assert len(closed) == STALLED
