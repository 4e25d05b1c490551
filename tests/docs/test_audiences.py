"""The how-to about two audiences, with a service that has both topics."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from energyws.testing import SECRET, Broker, Records, Service, config
from tests.conftest import new_topic
from tests.docs.shell import bash, replaced
from tests.docs.snippets import load_yaml, snippets

pytestmark = [pytest.mark.e2e, pytest.mark.edge]


def claims(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return found


def test_two_audiences(broker: Broker, tmp_path: Path) -> None:
    configured, mint, payload, tail = (block.text for block in snippets(test_two_audiences))
    topics = {"household-readings": new_topic(broker), "grid-readings": new_topic(broker)}
    documented = load_yaml(replaced(configured, topics))
    settings = config(broker.bootstrap, "", streams=documented["streams"])
    # There are no other keys than those, and those that every test has.
    assert documented.keys() == {"kafka", "auth", "streams"}
    del settings["kafka"]["topic"]
    for name, topic in topics.items():
        Records(broker.bootstrap, topic).send(1, of=name)
    with Service(tmp_path, settings) as service:
        service.ready()
        here = {"CONFIG_PATH": str(service.config_path), "JWT_SECRET": SECRET}
        minted = bash(mint, tmp_path, **here).stdout.split()
        assert [claims(each)["streams"] for each in minted] == [["homes"], ["homes", "grid"]]
        shown = json.loads(payload)
        assert shown.keys() == claims(minted[0]).keys()
        assert (shown["sub"], shown["streams"]) == ("visitor", ["homes"])
        assert shown["exp"] - shown["iat"] == 3600
        *before, homes, grid = tail.splitlines()
        assert "--stream homes" in homes
        changes = {"ws://localhost:8080/ws/energy": service.url}
        done = bash(replaced("\n".join([*before, homes]), changes), tmp_path, **here)
        assert json.loads(done.stdout)["data"]["of"] == "household-readings", done.stderr
        refused = bash(replaced("\n".join([*before, grid]), changes), tmp_path, **here)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "FORBIDDEN_STREAM" in refused.stderr
