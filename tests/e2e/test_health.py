"""What the probes say in each state of docs/operations.md, of the real service."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from energyws.control.policy.readiness import (
    DRAINING,
    NO_BROKER,
    NO_CONSUMER,
    NO_WORKER,
    NOT_READ_BACK,
)
from energyws.testing import Broker, Records, Service, config, eventually
from energyws.testing.proxy import TcpProxy
from tests.clients import open_peer

pytestmark = pytest.mark.e2e
Serve = Callable[..., Service]


def health(service: Service, seconds: float = 10) -> int | None:
    """The status of /health on the main port; None: no answer."""
    url = f"http://127.0.0.1:{service.port}/health"
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return int(answer.status)
    except (urllib.error.URLError, TimeoutError):
        return None


def reasons(service: Service) -> list[str]:
    """What /ready says; its status goes with it."""
    status, answer = service.admin("/ready")
    assert (status == 200) == (answer["reasons"] == []) == answer["ready"]
    found: list[str] = answer["reasons"]
    return found


def test_running(serve: Serve) -> None:
    service = serve().ready()
    assert (reasons(service), health(service), service.admin("/live")[0]) == ([], 200, 200)


def test_broker_away(broker: Broker, topic: str, tmp_path: Path) -> None:
    host, _, port = broker.bootstrap.partition(":")
    with TcpProxy(host, int(port)) as proxy:
        proxy.cut()
        settings = config(f"127.0.0.1:{proxy.port}", topic, server={"workers": 1})
        with Service(tmp_path, settings) as service:
            eventually(lambda: reasons(service) == [NO_BROKER], "never there")
            assert (health(service), service.admin("/live")[0]) == (200, 200)
            proxy.restore()
            service.ready()


def test_consumer_dead(serve: Serve) -> None:
    service = serve().ready()
    service.children()["consumer"].kill()
    told = eventually(lambda: reasons(service), "it is missed")
    assert set(told) <= {NO_CONSUMER, NO_BROKER, NOT_READ_BACK}
    assert (health(service), service.admin("/live")[0]) == (200, 200)
    service.ready()


def test_only_worker_dead(serve: Serve) -> None:
    service = serve(server={"workers": 1}).ready()
    service.children()["worker-0"].kill()
    eventually(lambda: reasons(service) == [NO_WORKER], "it is missed")
    # Whoever comes meanwhile waits in the queue for the successor.
    assert health(service, 30) == 200
    service.ready()


def test_only_worker_hung(serve: Serve) -> None:
    service = serve(server={"workers": 1}, supervision={"hang_seconds": 2}).ready()
    worker = service.children()["worker-0"]
    worker.send_signal(signal.SIGSTOP)
    assert health(service, 0.5) is None
    eventually(lambda: reasons(service) == [NO_WORKER], "it is noticed")
    service.wait_logged("killing child", "worker-0")
    service.ready()
    assert (health(service), service.admin("/live")[0]) == (200, 200)


def test_about_to_drain(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1, "drain_delay_seconds": 3600}).ready()
    with open_peer(service) as before:
        before.subscribe()
        service.signal(signal.SIGTERM)
        eventually(lambda: reasons(service) == [DRAINING], "it is told")
        assert (health(service), service.admin("/live")[0]) == (200, 200)
        # Whose balancer has not seen it yet.
        with open_peer(service) as newcomer:
            newcomer.subscribe()
            sent = records.send(3)
            assert sorted(newcomer.numbers(3)) == sorted(before.numbers(3)) == sent
        for number in (signal.SIGUSR2, signal.SIGTTIN, signal.SIGHUP):
            service.signal(number)
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
    assert not any(service.logged(event) for event in ("replacing", "scaling", "reloaded"))


def test_draining(serve: Serve) -> None:
    service = serve(server={"workers": 1, "drain_seconds": 60}).ready()
    with ExitStack() as stack:
        # They leave one by one.
        for _ in range(4):
            stack.enter_context(open_peer(service)).subscribe()
        service.signal(signal.SIGTERM)
        eventually(lambda: DRAINING in reasons(service), "it is told")
        assert (health(service), service.admin("/live")[0]) == (200, 200)
        # The second one: now.
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
