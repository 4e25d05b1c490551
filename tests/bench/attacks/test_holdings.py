from __future__ import annotations

import os
import shutil
import socket

import psutil
import pytest

from bench.attacks import holdings
from energyws.testing import eventually

LISTING = """\
0      2626560  127.0.0.1:8080  127.0.0.9:4000
\t skmem:(r0,rb131072,t2600000,tb2626560,f4096,w2700000,o0,bl0,d0)
0      0        127.0.0.1:8080  127.0.0.9:4001
\t skmem:(r500,rb131072,t0,tb46080,f0,w0,o0,bl0,d0)
"""


def test_buffers_of_all_sockets_are_added_up() -> None:
    assert holdings.buffered(LISTING) == 2_700_000 + 4_096 + 500
    assert holdings.buffered("") == 0


@pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss (Debian: iproute2)")
def test_peak_has_what_the_kernel_held_for_a_client_that_does_not_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        here = [psutil.Process(os.getpid())]
        with (
            holdings.peaks(here, port) as peak,
            socket.create_connection(("127.0.0.1", port)),
            server.accept()[0] as accepted,
        ):
            accepted.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    accepted.send(bytes(1 << 16))
            eventually(lambda: (peak.kernel or 0) > 1 << 16, "the peak has the buffers")
        assert holdings.read(here, port).memory > 1 << 20
