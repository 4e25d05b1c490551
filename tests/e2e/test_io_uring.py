"""A service that may not use io_uring serves all the same, and says so."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from energyws.process.io_uring import IoUring
from energyws.testing import Broker, Records, Service, config
from tests.clients import open_peer

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

ROOT = Path(__file__).parents[2]
# More than a worker sends to one by one in any case.
CLIENTS = 12
RECORDS = 60
PAUSE = 10


def test_every_record_comes_once_where_a_seccomp_filter_forbids_io_uring(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    settings = config(broker.bootstrap, topic, server={"workers": 1, "io_uring": "auto"})
    producer = Records(broker.bootstrap, topic)
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with (
        Service(
            tmp_path / "service", settings, program="tests.without_io_uring", environment=path
        ) as service,
        ExitStack() as open_peers,
    ):
        service.ready().wait_logged(
            "live frames go out one send for each client", "io_uring=forbidden"
        )
        assert service.boards()["worker-0"]["io_uring"] == IoUring.FORBIDDEN
        peers = [open_peers.enter_context(open_peer(service)) for _ in range(CLIENTS)]
        for peer in peers:
            peer.subscribe()
        for begin in range(0, RECORDS, PAUSE):
            numbers = producer.send(PAUSE)
            assert numbers[0] == begin
            for peer in peers:
                assert sorted(peer.numbers(PAUSE)) == numbers
