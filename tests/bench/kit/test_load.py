"""The load generator detects losses, duplicates and damage; otherwise it would prove nothing."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from bench.kit.load import Load
from bench.kit.record import padded
from energyws.protocol.frame import DataFrames
from energyws.testing import eventually


def _can_be_built() -> bool:
    headers = b"#include <openssl/ssl.h>\n#include <zlib.h>\n"
    return (
        shutil.which("gcc") is not None
        and not subprocess.run(
            ["gcc", "-E", "-"], input=headers, capture_output=True, check=False
        ).returncode
    )


pytestmark = pytest.mark.skipif(
    not _can_be_built(), reason="needs gcc, and the headers of OpenSSL and zlib"
)

CLIENTS = 3
FRAMES = DataFrames("energy")

Send = Callable[[int, int], None]


def frame(partition: int, number: int) -> bytes:
    position = ".".join(str(number + 1 if each == partition else 0) for each in range(3))
    return FRAMES.build(1_766_752_496_789, padded(partition, number, 300), f"01234567-{position}")


@pytest.fixture
def crowd() -> Iterator[tuple[Load, list[socket.socket]]]:
    """Clients of a bare socket, and the server's ends of their connections."""
    with connected(events=False) as both:
        yield both


@contextmanager
def connected(*, events: bool) -> Iterator[tuple[Load, list[socket.socket]]]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        accepted: list[socket.socket] = []
        accepting = threading.Thread(
            target=lambda: accepted.extend(listening.accept()[0] for _ in range(CLIENTS))
        )
        accepting.start()
        load = Load(listening.getsockname()[1], CLIENTS, None, events=events)
        try:
            load.ready()
            accepting.join()
            yield load, accepted
        finally:
            load.close()
            for connection in accepted:
                connection.close()


def test_everything_in_order_is_counted(crowd: tuple[Load, list[socket.socket]]) -> None:
    load, connections = crowd
    for connection in connections:
        connection.sendall(b"".join(frame(n % 3, 7 + n // 3) for n in range(1000)))
    counts = load.all_have(1000)
    assert (counts["frames"], counts["least"], counts["most"]) == (3000, 1000, 1000)
    assert (counts["gaps"], counts["duplicates"], counts["closed"]) == (0, 0, 0)
    assert counts["checked"] == 3000 // 997
    assert len(counts["delays"]) == 3000 // 61


def test_frames_come_in_any_pieces(crowd: tuple[Load, list[socket.socket]]) -> None:
    load, connections = crowd
    data = frame(0, 0) + frame(0, 1) + frame(0, 2)
    for at in range(0, len(data), 100):
        for connection in connections:
            connection.sendall(data[at : at + 100])
        # So that the clients receive the next piece separately.
        load.counts()
    counts = load.all_have(3)
    assert (counts["frames"], counts["gaps"], counts["duplicates"]) == (9, 0, 0)


@pytest.mark.parametrize(
    ("numbers", "gaps", "duplicates"),
    [((0, 1, 3), 1, 0), ((0, 1, 1), 0, 1), ((0, 2, 1), 1, 1), ((5, 9, 10), 3, 0)],
)
def test_lost_repeated_and_reordered_frames_are_found(
    crowd: tuple[Load, list[socket.socket]],
    numbers: tuple[int, ...],
    gaps: int,
    duplicates: int,
) -> None:
    load, connections = crowd
    for at, connection in enumerate(connections):
        wrong = numbers if at == 0 else (0, 1, 2)
        connection.sendall(b"".join(frame(1, number) for number in wrong))
    counts = load.all_have(3)
    assert (counts["gaps"], counts["duplicates"]) == (gaps, duplicates)


def test_frame_with_a_wrong_position_is_found(
    crowd: tuple[Load, list[socket.socket]],
) -> None:
    load, connections = crowd
    # The position of another record.
    data = FRAMES.build(1_766_752_496_789, padded(0, 7, 300), "01234567-1.0.0")
    connections[0].sendall(data * 997)
    with pytest.raises(AssertionError):
        load.all_have(997)


def test_closed_connection_is_counted(crowd: tuple[Load, list[socket.socket]]) -> None:
    load, connections = crowd
    connections[0].close()
    assert load.all_have(1)["closed"] == 1


def event(partition: int, number: int) -> bytes:
    data = frame(partition, number)
    return b"id: 1\ndata: %b\n\n" % data[data.index(b'{"type"') :]


def test_events_are_counted_and_compared_whatever_the_pieces() -> None:
    with connected(events=True) as (load, connections):
        stream = b'retry: 1000\n\nevent: subscribed\nid: 1\ndata: {"type":"subscribed"}\n\n'
        stream += event(0, 0) + b":\n\n" + event(0, 1) + event(0, 3)
        for at in range(0, len(stream), 100):
            for connection in connections:
                connection.sendall(stream[at : at + 100])
            # So that the clients receive the next piece separately.
            load.counts()
        counts = load.all_have(3)
    assert (counts["frames"], counts["others"]) == (9, 3)
    assert (counts["gaps"], counts["duplicates"]) == (3, 0)


def test_event_without_its_empty_line_is_not_counted() -> None:
    with connected(events=True) as (load, connections):
        for connection in connections:
            connection.sendall(event(0, 0) + event(0, 1)[:-1])
        assert load.all_have(1)["frames"] == CLIENTS
        connections[0].sendall(b"\n")
        eventually(lambda: load.counts()["frames"] == CLIENTS + 1, "its empty line completes it")
