"""A reload is half done: a worker has the new settings, and the consumer cannot have them yet."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from energyws.control.policy.readiness import DISPUTED
from energyws.testing import Broker, Records, Service, eventually, token
from tests.clients import Peer, open_peer
from tests.conftest import new_topic

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

Serve = Callable[..., Service]


def household(service: Service) -> Peer:
    """A client whose token names one key."""
    headers = {"Authorization": f"Bearer {token(keys=['7'])}"}
    return open_peer(service, additional_headers=headers)


def until_numbered(peer: Peer, number: int) -> list[int]:
    """The numbers of the records up to this one."""
    numbers: list[int] = []
    while not numbers or numbers[-1] != number:
        numbers.append(peer.until("data")["data"]["n"])
    return numbers


def test_worker_with_another_key_than_the_consumer_gives_no_record_of_the_stream(
    serve: Serve, broker: Broker, topic: str, records: Records
) -> None:
    plain = Records(broker.bootstrap, new_topic(broker))
    meters: dict[str, Any] = {"topic": topic, "key": "/meter", "access": "keyed"}
    streams = {"meters": meters, "plain": {"topic": plain.topic}}
    service = serve(
        kafka={"topic": None}, streams=streams, server={"workers": 1, "drain_seconds": 0.1}
    ).ready()

    def write(number: int) -> None:
        # Of meter 7 in home 8, and the other way round.
        for each, meter, home in ((number, "7", "8"), (number + 100, "8", "7")):
            records.raw(orjson.dumps({"n": each, "meter": meter, "home": home}))
        plain.raw(orjson.dumps({"n": number}))
        records.flush()
        plain.flush()

    with household(service) as peer:
        peer.ask({"type": "subscribe", "streams": ["meters"]})
        write(1)
        assert until_numbered(peer, 1) == [1]

    # The new consumer cannot read a topic that does not exist. Its name is the first one, so that
    # the streams have other numbers on the bus.
    missing = f"{topic}-missing"
    service.config["streams"] = {
        "absent": {"topic": missing},
        "meters": {**meters, "key": "/home"},
        "plain": {"topic": plain.topic},
    }
    service.write_config()
    service.signal(signal.SIGHUP)
    service.wait_logged("reloaded", "streams")
    service.children()["worker-0"].kill()
    service.wait_logged("stands still", "stream=meters", "key_from=/home")
    eventually(lambda: service.admin("/ready")[1]["reasons"] == [DISPUTED], "/ready says why")

    with household(service) as waiting, household(service) as other:
        waiting.send({"type": "subscribe", "streams": ["meters"]})
        assert waiting.receive()["code"] == "STREAM_UNAVAILABLE"
        other.ask({"type": "subscribe", "streams": ["plain"]})
        write(2)
        assert until_numbered(other, 2) == [2]
        broker.create_topic(missing)
        waiting.until("subscribed")
        write(3)
        # The home's, by the new key, and not the meter's.
        assert until_numbered(waiting, 103) == [103]
    service.ready()
