"""The proxy, between plain sockets and between a Kafka client and a broker."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka.admin import AdminClient

from energyws.testing.embedded_broker import EmbeddedBroker
from energyws.testing.proxy import TcpProxy

DEADLINE = 5.0
# Seconds; long enough for data to cross loopback.
QUIET = 0.2


class Upstream:
    """A server that sends its name to every connection, then echoes."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted: list[socket.socket] = []
        threading.Thread(target=self._accept).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted.append(connection)
            threading.Thread(target=self._echo, args=(connection,)).start()

    def _echo(self, connection: socket.socket) -> None:
        try:
            connection.sendall(self.name)
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        # Only shutdown wakes a thread that is waiting in accept or recv.
        for each in (self._listener, *self.accepted):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream(b"one")
    yield server
    server.close()


@contextmanager
def connected(proxy: TcpProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE) as client:
        yield client


def receive(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := client.recv(65536)):
        data += piece
    return data


def send_all(client: socket.socket, payload: bytes) -> None:
    client.sendall(payload)
    client.shutdown(socket.SHUT_WR)


def is_quiet(client: socket.socket) -> bool:
    return not select.select([client], [], [], QUIET)[0]


def wait_for_connections(proxy: TcpProxy, count: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while proxy.connections != count:
        assert time.monotonic() < deadline, f"{proxy.connections} connections, expected {count}"
        time.sleep(0.005)


def test_data_and_its_end_pass_in_both_directions(upstream: Upstream) -> None:
    payload = bytes(range(256)) * 4096
    with TcpProxy("127.0.0.1", upstream.port) as proxy, connected(proxy) as client:
        assert receive(client, 3) == b"one"
        sender = threading.Thread(target=send_all, args=(client, payload))
        sender.start()
        assert receive(client, len(payload) + 1) == payload
        sender.join()
        wait_for_connections(proxy, 0)


def test_cut_resets_open_connections_and_refuses_new_ones(upstream: Upstream) -> None:
    with TcpProxy("127.0.0.1", upstream.port) as proxy, connected(proxy) as client:
        assert receive(client, 3) == b"one"
        proxy.cut()
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError), connected(proxy):
            pass


def test_restore_accepts_on_the_same_port(upstream: Upstream) -> None:
    with TcpProxy("127.0.0.1", upstream.port) as proxy:
        for _ in range(3):
            proxy.cut()
            proxy.restore()
            proxy.restore()
            with connected(proxy) as client:
                assert receive(client, 3) == b"one"


def test_blackhole_delays_data_until_it_ends(upstream: Upstream) -> None:
    with TcpProxy("127.0.0.1", upstream.port) as proxy, connected(proxy) as client:
        assert receive(client, 3) == b"one"
        proxy.blackhole(True)
        client.sendall(b"lost?")
        assert is_quiet(client)
        with connected(proxy) as late:
            assert is_quiet(late)
            proxy.blackhole(False)
            assert receive(client, 5) == b"lost?"
            assert receive(late, 3) == b"one"


def test_blackhole_hides_that_the_target_has_gone(upstream: Upstream) -> None:
    with TcpProxy("127.0.0.1", upstream.port) as proxy, connected(proxy) as client:
        assert receive(client, 3) == b"one"
        proxy.blackhole(True)
        upstream.close()
        assert is_quiet(client)
        proxy.blackhole(False)
        assert receive(client, 1) == b""


def test_retarget_sends_new_connections_elsewhere(upstream: Upstream) -> None:
    other = Upstream(b"two")
    try:
        with TcpProxy("127.0.0.1", upstream.port) as proxy, connected(proxy) as before:
            assert receive(before, 3) == b"one"
            proxy.retarget("127.0.0.1", other.port)
            with connected(proxy) as after:
                assert receive(after, 3) == b"two"
            before.sendall(b"still one")
            assert receive(before, 9) == b"still one"
    finally:
        other.close()


def test_target_that_refuses_resets_the_client(upstream: Upstream) -> None:
    with TcpProxy("127.0.0.1", upstream.port) as proxy:
        upstream.close()
        # The reset may arrive before connect() returns.
        with pytest.raises(ConnectionResetError), connected(proxy) as client:
            client.recv(1)


def test_closed_proxy_leaves_no_thread(upstream: Upstream) -> None:
    proxy = TcpProxy("127.0.0.1", upstream.port)
    assert "TcpProxy" in {thread.name for thread in threading.enumerate()}
    proxy.close()
    proxy.close()
    assert "TcpProxy" not in {thread.name for thread in threading.enumerate()}


def test_kafka_client_goes_through_the_proxy_when_it_is_advertised() -> None:
    with EmbeddedBroker() as broker:
        host, port = broker.bootstrap.split(":")
        with TcpProxy(host, int(port)) as proxy:
            broker.advertise("127.0.0.1", proxy.port)
            client = AdminClient({"bootstrap.servers": proxy.address, "log_level": 0})
            (advertised,) = client.list_topics(timeout=DEADLINE).brokers.values()
            assert f"{advertised.host}:{advertised.port}" == proxy.address
            proxy.cut()
            wait_for_connections(proxy, 0)
            proxy.restore()
            assert client.list_topics(timeout=DEADLINE).brokers
