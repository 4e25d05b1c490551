"""Clients that send many history requests, and others beside them."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from energyws.testing import Broker, Records, Service, config, eventually, token
from energyws.testing.proxy import TcpProxy
from tests.clients import bare_socket, masked, open_peer, response_head, upgrade_request

pytestmark = pytest.mark.e2e

Serve = Callable[..., Service]
SHALLOW = {"max_frames": 60, "warm": 4}
UNSUBSCRIBE = masked(1, b'{"type":"unsubscribe","streams":["energy"]}')


def invented(epoch: str, partitions: int) -> bytes:
    """A subscription from an invented position."""
    offsets = ".".join(str(random.randrange(1, 500)) for _ in range(partitions))
    resume = {"energy": f"{epoch}-{offsets}"}
    return masked(1, orjson.dumps({"type": "subscribe", "streams": ["energy"], "resume": resume}))


def requests(service: Service) -> int:
    """The number of the worker's subscriptions that wait for the log."""
    children = service.admin("/workers")[1]
    count: int = next(
        each["board"]["history_questions"] for each in children if each["name"] == "worker-0"
    )
    return count


@pytest.mark.parametrize("partitions", [3, 1000])
def test_invented_positions_leave_nothing_behind_and_delay_no_other_client(
    serve: Serve, records: Records, partitions: int
) -> None:
    # A log so slow that requests wait: an answer of 256 KiB takes half a second.
    service = serve(history={**SHALLOW, "bytes_per_second": 524_288}, server={"workers": 1}).ready()
    with open_peer(service) as peer:
        begin = peer.subscribe()["position"]
    sent = records.send(1500, padding="x" * 300)
    service.caught_up(records)
    epoch = begin.partition("-")[0]
    with ExitStack() as stack:
        request = upgrade_request(service, f"Authorization: Bearer {token('greedy')}")
        greedy = [stack.enter_context(bare_socket(service)) for _ in range(40)]
        for each in greedy:
            each.sendall(request)
            assert response_head(each).startswith("HTTP/1.1 101 ")
        for _ in range(40):
            for each in greedy:
                each.sendall(invented(epoch, partitions) + UNSUBSCRIBE)
        for each in greedy:
            each.sendall(invented(epoch, partitions))
        if partitions == 3:
            eventually(lambda: requests(service) >= 20, "one request per client waits")
        with open_peer(service) as peer:
            # This request does not wait for those of the forty clients.
            resume = {"energy": f"{epoch}-490.490.490"}
            assert peer.subscribe(resume=resume)["recovered"]
            assert sorted(peer.numbers(30)) == sent[-30:]
        eventually(lambda: requests(service) <= len(greedy), "no client has more than one request")
    eventually(lambda: requests(service) == 0, "no request is left of clients that are gone")


def test_start_of_the_service_sends_no_old_readings(
    broker: Broker, topic: str, records: Records, tmp_path: Path
) -> None:
    records.send(60)
    host, _, port = broker.bootstrap.partition(":")
    with TcpProxy(host, int(port)) as proxy:
        proxy.cut()
        settings = config(f"127.0.0.1:{proxy.port}", topic, server={"workers": 1})
        with (
            Service(tmp_path, settings) as service,
            open_peer(service) as peer,
            open_peer(service) as back,
        ):
            peer.send({"type": "subscribe", "streams": ["energy"]})
            back.send({"type": "subscribe", "streams": ["energy"], "last": 7})
            for each in (peer, back):
                each.send({"type": "ping"})
                each.until("pong")
            proxy.restore()
            reply = peer.until("subscribed")["positions"]["energy"]
            assert reply["position"].partition("-")[2] == "20.20.20"
            assert back.until("subscribed")["positions"]["energy"]["replayed"] == 7
            fresh = records.send(3)
            assert sorted(peer.numbers(3)) == fresh
            assert sorted(back.numbers(10)[7:]) == fresh
