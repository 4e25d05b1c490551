"""No data frame follows a close frame of the service (RFC 6455 section 5.5.1), under load."""

from __future__ import annotations

import contextlib
import itertools
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from energyws.testing import Broker, Records, Service, config, eventually
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

OLD_RECORDS = 2_000
# Enough for one system call for all of them, where io_uring is in use.
CLIENTS = 40
ROUNDS = 2
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
# The headers and the query of a client that gets frames in this way.
WAYS = {
    "live": ([], "?subscribe=energy"),
    "live, compressed": ([DEFLATE], "?subscribe=energy"),
    "from memory": ([], f"?subscribe=energy&last={OLD_RECORDS // 4}"),
    "from the log": ([], f"?subscribe=energy&last={OLD_RECORDS}"),
}
# What makes a close frame, and its code.
CLOSES = {
    "the client closes": (masked(8, b"\x03\xe8"), 1000),
    "an invalid close": (masked(8, b"\x03\xee"), 1002),
    "an unknown opcode": (masked(3, b""), 1002),
    "text that is not UTF-8": (masked(1, b"\xff"), 1007),
    "too many messages": (masked(9, b"") * 150, 1008),
    "too large a message": (masked(1, b"x" * 20_000), 1009),
}


@pytest.fixture(params=["io_uring", "TLS"])
def loaded(
    request: pytest.FixtureRequest, broker: Broker, tmp_path: Path
) -> Iterator[tuple[Service, ssl.SSLContext | None]]:
    """A service whose topic is written to all the time."""
    server: dict[str, Any] = {"workers": 1, "close_timeout_seconds": 0.3, "drain_seconds": 0.2}
    trust = None
    if request.param == "TLS":
        server["tls"] = pair = write_pair(tmp_path)
        trust = trusting(pair["cert"])
    topic = new_topic(broker)
    history = {"max_frames": OLD_RECORDS // 2, "warm": 10}
    over = threading.Event()
    settings = config(broker.bootstrap, topic, server=server, history=history)
    with Service(tmp_path / "service", settings) as service:
        records = Records(broker.bootstrap, topic)
        records.send(OLD_RECORDS)

        def write() -> None:
            while not over.wait(0.005):
                records.send(20)

        writer = threading.Thread(target=write)
        service.ready()
        writer.start()
        try:
            yield service, trust
        finally:
            over.set()
            writer.join()


def opcodes(client: socket.socket, data: bytes) -> list[tuple[int, bytes]]:
    """The opcode and payload of each whole frame to the connection's end."""
    client.settimeout(PATIENCE_SECONDS)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := client.recv(1 << 16):
            data += piece
    found = []
    view = data
    while (frame := first_frame(view)) is not None:
        found.append((view[0] & 0xF, frame[0]))
        view = frame[1]
    return found


class Crowd:
    """Clients that are being written to, each in another way and with another end."""

    def __init__(
        self, service: Service, trust: ssl.SSLContext | None, stack: ExitStack, first: int
    ) -> None:
        self.clients = []
        every = itertools.cycle(itertools.product(WAYS, CLOSES))
        for way, how in itertools.islice(every, first, first + CLIENTS):
            lines, query = WAYS[way]
            client = stack.enter_context(bare_socket(service, trust))
            client.sendall(upgrade_request(service, *lines, query=query))
            assert " 101 " in response_head(client)
            self.clients.append((client, way, how))
        self._begun = [client.recv(1 << 16) for client, _, _ in self.clients]

    def provoke(self) -> None:
        for client, _, how in self.clients:
            with contextlib.suppress(ConnectionError):
                client.sendall(CLOSES[how][0])

    def last_frames(self) -> Iterator[tuple[int, str, str, int]]:
        """The code of each client's close frame, which must be its last; how it came; frames."""
        for (client, way, how), data in zip(self.clients, self._begun, strict=True):
            frames = opcodes(client, data)
            closes = [number for number, (code, _) in enumerate(frames) if code == 8]
            assert closes == [len(frames) - 1], (way, how)
            yield int.from_bytes(frames[-1][1][:2], "big"), way, how, len(frames)


def test_close_frame_is_the_last(loaded: tuple[Service, ssl.SSLContext | None]) -> None:
    service, trust = loaded
    tries = total = 0
    for _ in range(ROUNDS):
        with ExitStack() as stack:
            crowd = Crowd(service, trust, stack, tries)
            crowd.provoke()
            for code, way, how, frames in crowd.last_frames():
                assert code == CLOSES[how][1], (way, how)
                tries, total = tries + 1, total + frames
    eventually(lambda: service.boards()["worker-0"]["connections"] == 0, "all are gone")
    with ExitStack() as stack:
        crowd = Crowd(service, trust, stack, 0)
        service.signal(signal.SIGTERM)
        for code, way, _, frames in crowd.last_frames():
            assert code == 1012, way
            tries, total = tries + 1, total + frames
    print(f"{tries} closes among {total} frames")
