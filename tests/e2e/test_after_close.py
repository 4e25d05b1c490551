"""A connection that the service has closed gets a close frame, and costs little."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from energyws.testing import Broker, Records, Service, config
from energyws.testing.certificates import trusting, write_pair
from tests.clients import (
    PATIENCE_SECONDS,
    bare_socket,
    first_frame,
    masked,
    response_head,
    upgrade_request,
)
from tests.conftest import new_topic

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

CLOSE_TIMEOUT_SECONDS = 3.0
# Long before the close timeout, even on a busy machine.
AT_ONCE_SECONDS = 2.0
# More than both kernels buffer for a reader that has stopped, and less than a reader takes in
# CLOSE_TIMEOUT_SECONDS (tcp(7): the third figure is the most that a socket may have).
BOUND_BYTES = sum(
    int(Path("/proc/sys/net/ipv4", name).read_text().split()[2])
    for name in ("tcp_rmem", "tcp_wmem")
)
REFUSED = ["Origin: https://page.example", "Authorization: Bearer nonsense"]
PING = masked(9, b"")
# The headers of a connection, and the frames that make the service close it.
CLOSED = {
    "refused": (REFUSED, b""),
    "refused, with frames that cannot be parsed": (REFUSED, masked(3, b"")),
    "flood": ([], PING * 1000),
    "violation": ([], masked(1, b"", reserved=4)),
    "violation in a header": ([], masked(3, b"")),
    "the client closes": ([], masked(8, b"\x03\xe8")),
}


class Door:
    """A service, plain or with TLS, and a producer for its topic."""

    def __init__(self, service: Service, records: Records, trust: ssl.SSLContext | None) -> None:
        self.service = service
        self.records = records
        self._trust = trust

    @contextlib.contextmanager
    def enter(self, *lines: str) -> Iterator[socket.socket]:
        """An upgraded connection."""
        with bare_socket(self.service, self._trust) as client:
            client.sendall(upgrade_request(self.service, *lines))
            assert " 101 " in response_head(client)
            yield client


@pytest.fixture(scope="module", params=["ws", "wss"])
def door(
    request: pytest.FixtureRequest, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    directory: Path = tmp_path_factory.mktemp("door")
    server: dict[str, object] = {"workers": 1, "close_timeout_seconds": CLOSE_TIMEOUT_SECONDS}
    trust = None
    if request.param == "wss":
        server["tls"] = pair = write_pair(directory)
        trust = trusting(pair["cert"])
    topic = new_topic(broker)
    with Service(directory, config(broker.bootstrap, topic, server=server)) as service:
        yield Door(service.ready(), Records(broker.bootstrap, topic), trust)


def frames(client: socket.socket, data: bytes = b"") -> list[tuple[int, bytes]]:
    """The opcode and payload of each frame until the end. data: the bytes read before."""
    client.settimeout(PATIENCE_SECONDS)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := client.recv(65536):
            data += piece
    found = []
    while (frame := first_frame(data)) is not None:
        found.append((data[0] & 0xF, frame[0]))
        data = frame[1]
    return found


def code(payload: bytes) -> int:
    return int.from_bytes(payload[:2], "big")


@pytest.mark.parametrize("how", CLOSED)
def test_flood_after_the_close_is_not_read_to_its_end(door: Door, how: str) -> None:
    lines, provocation = CLOSED[how]
    with door.enter(*lines) as client:
        client.sendall(provocation)
        client.settimeout(CLOSE_TIMEOUT_SECONDS + AT_ONCE_SECONDS)
        start = time.monotonic()
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 2 * BOUND_BYTES:
                sent += client.send(PING * 1000)
        # The service does not keep the descriptor until the close timeout either.
        assert time.monotonic() - start < AT_ONCE_SECONDS
    assert sent < BOUND_BYTES


@pytest.mark.parametrize("lines", [REFUSED, []], ids=["refused", "too many messages"])
def test_polite_client_with_frames_in_flight_gets_a_clean_close(
    door: Door, lines: list[str]
) -> None:
    with door.enter(*lines) as client:
        # As many messages as the rate allows, and for a session one more.
        client.sendall(masked(1, b'{"type":"ping"}') * (10 if lines else 101))
        client.sendall(masked(1, b"x" * 16_000))
        seen, data = b"", b""
        while b"\x88" not in seen:
            seen += client.recv(65536)
        start = time.monotonic()
        client.sendall(masked(8, b"\x03\xe8"))
        while piece := client.recv(65536):
            data += piece
        assert data == b""
        assert time.monotonic() - start < AT_ONCE_SECONDS


@pytest.mark.parametrize("invalid", [0, 1005, 1006, 1016, 2999, 5000, 65535])
def test_forbidden_close_code_ends_the_connection_immediately(door: Door, invalid: int) -> None:
    with door.enter() as client:
        start = time.monotonic()
        client.sendall(masked(8, invalid.to_bytes(2, "big")))
        assert [(opcode, code(payload)) for opcode, payload in frames(client)] == [(8, 1002)]
        assert time.monotonic() - start < AT_ONCE_SECONDS


def test_nothing_follows_the_close_frame(door: Door) -> None:
    with door.enter() as client:
        client.sendall(masked(9, b"answer me") + masked(3, b"") + masked(9, b"not me"))
        assert [opcode for opcode, _ in frames(client)] == [10, 8]


def test_live_frames_stop_at_the_close_frame(door: Door) -> None:
    for _ in range(5):
        with door.enter() as client:
            client.sendall(masked(1, b'{"type":"subscribe","streams":["energy"]}'))
            # It may end within a frame.
            start = client.recv(65536)
            door.records.send(200)
            client.sendall(masked(3, b""))
            door.records.send(200)
            assert [opcode for opcode, _ in frames(client, start)][-1] == 8


def test_violation_is_logged_as_closed_by_the_server(door: Door) -> None:
    with door.enter() as client:
        client.sendall(masked(3, b""))
        assert frames(client)[-1][0] == 8
    door.service.wait_logged("WebSocket client disconnected", "code=1002 by=server")
