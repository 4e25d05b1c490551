"""docs/keyed.md, step by step, on a service with the records of several households."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from energyws.auth.verifier import mint
from energyws.testing import SECRET, Broker, Records, Service, config
from tests.clients import Peer
from tests.conftest import new_topic
from tests.docs.shell import replaced
from tests.docs.snippets import load_yaml, snippets

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
