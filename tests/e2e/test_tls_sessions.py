"""A TLS session can be resumed with every worker, present or later."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from energyws.testing import Broker, Service, config, eventually
from energyws.testing.certificates import trusting, write_pair
from tests.clients import response_head
from tests.conftest import new_topic

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

REQUEST = b"GET /nothing HTTP/1.1\r\nHost: here\r\n\r\n"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
# Enough that each of two workers gets one of them.
CONNECTIONS = 16


class Client:
    """Offers its first session with every connection."""

    def __init__(self, service: Service, cert: str, version: ssl.TLSVersion) -> None:
        self.service = service
        self.context = trusting(cert)
        self.context.maximum_version = version
        self.session: ssl.SSLSession | None = None
        assert not self.resumes()

    def resumes(self) -> bool:
        """Whether the service resumed the session; a request shows that the connection works."""
        address = "127.0.0.1", self.service.port
        with self.context.wrap_socket(
            socket.create_connection(address, 30),
            server_hostname="127.0.0.1",
            session=self.session,
        ) as connection:
            connection.sendall(REQUEST)
            assert response_head(connection).startswith("HTTP/1.1 404 ")
            if self.session is None:
                self.session = connection.session
            return bool(connection.session_reused)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(write_pair(tmp_path_factory.mktemp("tls")))


@pytest.fixture
def service(broker: Broker, tmp_path: Path, tls: dict[str, Any]) -> Iterator[Service]:
    server = {"workers": 2, "drain_seconds": 0, "tls": tls}
    with Service(tmp_path, config(broker.bootstrap, new_topic(broker), server=server)) as service:
        yield service.ready()


def pids(service: Service) -> dict[str, int]:
    return {name: child.pid for name, child in service.children().items()}


def test_session_is_resumed_with_every_worker_also_later_ones(
    service: Service, tls: dict[str, Any], tmp_path: Path
) -> None:
    clients = [Client(service, tls["cert"], version) for version in VERSIONS]

    def all_resume() -> bool:
        return all(client.resumes() for client in clients for _ in range(CONNECTIONS))

    def all_new(before: dict[str, int]) -> bool:
        now = pids(service)
        return set(now) == set(before) and not set(now.values()) & set(before.values())

    assert all_resume()
    before = pids(service)
    for child in service.children().values():
        child.kill()
    eventually(lambda: all_new(before), "the killed processes are replaced")
    assert service.ready()
    assert all_resume()
    before = pids(service)
    service.signal(signal.SIGUSR2)
    eventually(lambda: all_new(before), "a rolling restart")
    assert service.ready()
    assert all_resume()
    # Another certificate.
    service.config["server"]["tls"] = write_pair(tmp_path, name="other")
    service.write_config()
    service.signal(signal.SIGHUP)
    eventually(lambda: all(board["reloads"] for board in service.boards().values()), "a reload")
    assert all_resume()
    assert not service.logged("TLS sessions are resumed only")
