"""docs/keyed.md, step by step, on a service with the records of several households."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from energyws.auth.verifier import mint
from energyws.testing import SECRET, Broker, Records, Service, config, eventually
from tests.clients import Peer
from tests.conftest import new_topic
from tests.docs.shell import bash, replaced
from tests.docs.snippets import load_yaml, snippet, snippets
from tests.web.agent import program

pytestmark = [pytest.mark.e2e, pytest.mark.edge]


def answered(peer: Peer, subscribe: dict[str, Any]) -> tuple[int, set[str]]:
    """What `subscribed` says of the keys, and those of the records that follow."""
    reply = peer.ask(subscribe)
    replayed = reply["positions"]["energy"]["replayed"]
    return reply["keys"]["energy"], {peer.receive()["key"] for _ in range(replayed)}


def test_household(broker: Broker, tmp_path: Path) -> None:
    configured, payload, subscribe = (block.text for block in snippets(test_household))
    claims = json.loads(payload)
    records = Records(broker.bootstrap, new_topic(broker))
    documented = load_yaml(replaced(configured, {'"meters"': f'"{records.topic}"'}))
    assert documented.keys() == {"streams"}
    settings = config(broker.bootstrap, records.topic, **documented)
    for meter in [*claims["keys"], "a neighbour's"]:
        records.send(1, meter=meter)
    first, second = claims["keys"]
    with Service(tmp_path, settings) as service:
        service.ready()
        service.caught_up(records)
        token = mint(SECRET, claims["sub"], 900, time.time(), keys=claims["keys"])
        with Peer(f"{service.url}?token={token}") as peer:
            # A dashboard that knows no keys.
            seed = {"type": "subscribe", "streams": ["energy"], "since": "1970-01-01T00:00:00Z"}
            assert answered(peer, seed) == (2, {first, second})
            one = {**json.loads(subscribe), "since": "1970-01-01T00:00:00Z"}
            assert answered(peer, one) == (1, {first})
            forbidden = {**one, "keys": {"energy": [first, "a neighbour's"]}}
            assert peer.ask(forbidden)["code"] == "FORBIDDEN_KEY"
        assert not service.logged("neighbour")


def test_newest_record_of_each_key_by_curl(broker: Broker, tmp_path: Path) -> None:
    program("curl")
    records = Records(broker.bootstrap, new_topic(broker))
    keyed = {"key": "/meter", "access": "keyed", "snapshot": {"enabled": True}}
    streams = {"energy": {"topic": records.topic, **keyed}}
    key = "735999000000000001"
    for meter in (key, key, "a neighbour's"):
        records.send(1, meter=meter)
        # Each is in another partition, where only a later time makes it the newer one.
        written_ns = time.time_ns()
        eventually(lambda after=written_ns: time.time_ns() > after + 1_000_000, "a later time")
    with Service(tmp_path, config(broker.bootstrap, records.topic, streams=streams)) as service:
        service.ready()
        eventually(lambda: service.boards()["consumer"]["snapshot_state"] == 2, "it is warm")
        address = {"localhost:8080": f"127.0.0.1:{service.port}"}
        command = replaced(snippet(test_newest_record_of_each_key_by_curl), address)
        token = mint(SECRET, "household-7", 900, time.time(), keys=[key])
        answer = json.loads(bash(command, tmp_path, TOKEN=token).stdout)
    (newest,) = answer["records"]
    assert (newest["type"], newest["key"], newest["data"]["n"]) == ("snapshot", key, 1)
    assert answer["snapshot"].pop("position") == answer["position"]
    assert answer["snapshot"] == {"complete": True, "since": None, "keys": 1}
