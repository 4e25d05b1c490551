"""A process's connections and bytes, as `ss` reports them."""

from __future__ import annotations

import os
import shutil
import socket

import pytest

from bench.replicas import Traffic, parse, traffic

OUTPUT = """\
0 0 127.0.0.1:40002 127.0.0.1:9092 users:(("python",pid=41,fd=12))
\t cubic wscale:7,7 rto:204 bytes_sent:300 bytes_acked:300 bytes_received:9000 segs_out:5
0 0 127.0.0.1:40004 127.0.0.1:9092 users:(("python",pid=4,fd=9),("python",pid=41,fd=13))
\t cubic wscale:7,7 rto:204 bytes_received:50 segs_out:5
0 0 127.0.0.1:40006 127.0.0.1:9092 users:(("java",pid=42,fd=9))
\t cubic wscale:7,7 rto:204 bytes_sent:7 bytes_received:7
"""


@pytest.mark.parametrize(
    ("pid", "found"),
    [
        (41, Traffic(2, 300, 9050)),
        (42, Traffic(1, 7, 7)),
        (4, Traffic(1, 0, 50)),
        (1, Traffic(0, 0, 0)),
    ],
)
def test_bytes_are_those_of_the_process(pid: int, found: Traffic) -> None:
    assert parse(OUTPUT, pid) == found


@pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss (Debian: iproute2)")
def test_connection_of_this_process_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            peer, _ = server.accept()
            with peer:
                client.sendall(b"12345")
                peer.sendall(b"123")
                assert client.recv(3) == b"123"
                assert traffic(os.getpid(), port) == Traffic(1, 5, 3)
