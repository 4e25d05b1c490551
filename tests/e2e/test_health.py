"""The answers of the real service's probes in each state of docs/operations.md."""

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
    """The reasons in the answer of /ready, whose status agrees with them."""
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
            eventually(lambda: reasons(service) == [NO_BROKER], "/ready names the broker")
            assert (health(service), service.admin("/live")[0]) == (200, 200)
            proxy.restore()
            service.ready()


def test_consumer_dead(serve: Serve) -> None:
    service = serve().ready()
    service.children()["consumer"].kill()
    named = eventually(lambda: reasons(service), "/ready names the consumer")
    assert set(named) <= {NO_CONSUMER, NO_BROKER, NOT_READ_BACK}
    assert (health(service), service.admin("/live")[0]) == (200, 200)
    service.ready()


def test_only_worker_dead(serve: Serve) -> None:
    service = serve(server={"workers": 1}).ready()
    service.children()["worker-0"].kill()
    eventually(lambda: reasons(service) == [NO_WORKER], "/ready names the worker")
    # A request that arrives meanwhile waits in the queue for the successor.
    assert health(service, 30) == 200
    service.ready()


def test_only_worker_hung(serve: Serve) -> None:
    service = serve(server={"workers": 1}, supervision={"hang_seconds": 2}).ready()
    worker = service.children()["worker-0"]
    worker.send_signal(signal.SIGSTOP)
    assert health(service, 0.5) is None
    eventually(lambda: reasons(service) == [NO_WORKER], "/ready names the worker")
    service.wait_logged("killing child", "worker-0")
    service.ready()
    assert (health(service), service.admin("/live")[0]) == (200, 200)


def test_about_to_drain(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1, "drain_delay_seconds": 3600}).ready()
    with open_peer(service) as before:
        before.subscribe()
        service.signal(signal.SIGTERM)
        eventually(lambda: reasons(service) == [DRAINING], "/ready says so")
        assert (health(service), service.admin("/live")[0]) == (200, 200)
        # A client whose balancer has not noticed the drain yet.
        with open_peer(service) as late:
            late.subscribe()
            sent = records.send(3)
            assert sorted(late.numbers(3)) == sorted(before.numbers(3)) == sent
        for number in (signal.SIGUSR2, signal.SIGTTIN, signal.SIGHUP):
            service.signal(number)
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
    assert not any(service.logged(event) for event in ("replacing", "scaling", "reloaded"))


def test_draining(serve: Serve) -> None:
    service = serve(server={"workers": 1, "drain_seconds": 60}).ready()
    with ExitStack() as stack:
        # The drain closes clients one by one.
        for _ in range(4):
            stack.enter_context(open_peer(service)).subscribe()
        service.signal(signal.SIGTERM)
        eventually(lambda: DRAINING in reasons(service), "/ready says so")
        assert (health(service), service.admin("/live")[0]) == (200, 200)
        # The second signal ends the service immediately.
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
