"""The accept loop in C answers the clients of the measurement, and resumes their sessions."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bench.handshake import accept_loop
from bench.kit.build import program
from bench.kit.line_process import LineProcess
from bench.kit.load import Load
from energyws.testing.certificates import write_pair
from tests.bench.kit.test_load import pytestmark  # noqa: F401 - the same programs


@pytest.mark.parametrize("kind", ["plain", "tls", "tls_sessions"])
def test_clients_come_back_to_the_loop(kind: str, tmp_path: Path) -> None:
    tls, resume = kind != "plain", kind == "tls_sessions"
    command = [program("accept", "ssl", "crypto"), *(write_pair(tmp_path).values() if tls else ())]
    with LineProcess(command) as process:
        load = Load(process.answer(), 3, "none", tls=tls, sessions=resume)
        with closing(load.ready()):
            loop = accept_loop(process, load)
            assert loop.connections() == 3
            for _ in range(2):
                server_us, clients_us = loop.run(resume)
                assert server_us > 0
                assert clients_us > 0
            if resume:
                # A client that did not resume would be noticed.
                with pytest.raises(SystemExit, match="3 resumed"):
                    loop.run(resume=False)
