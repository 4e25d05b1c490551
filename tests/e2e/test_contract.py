"""The service keeps docs/contract: it passes the conformance kit, and all that it says is valid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from energyws.testing import Broker, Records, Service, config, token
from energyws.testing.conformance.server import judge
from energyws.testing.conformance.table import ServerCase, server_cases
from energyws.testing.conformance.target import Target, features
from tests.clients import Peer, open_peer
from tests.conftest import new_topic
from tests.contract.asyncapi import MESSAGES, REPLIES, examples
from tests.contract.schemas import strict

pytestmark = [pytest.mark.e2e, pytest.mark.edge]


@pytest.fixture(scope="module")
def target(shared: tuple[Service, Records]) -> Target:
    """The module's service, with a few records in its topic."""
    service, records = shared
    records.send(5)
    service.caught_up(records)
    return Target(service.url, token())


@pytest.fixture(scope="module")
def keyed(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Another service, whose stream has keys and snapshots, with a few records."""
    records = Records(broker.bootstrap, new_topic(broker))
    snapshot = {"enabled": True}
    streams = {"energy": {"topic": records.topic, "key": "/meter", "snapshot": snapshot}}
    chosen = config(broker.bootstrap, records.topic, streams=streams)
    for meter in "aba":
        records.send(1, meter=meter)
    with Service(tmp_path_factory.mktemp("keyed"), chosen) as service:
        service.ready()
        service.caught_up(records)
        yield Target(service.url, token())


def test_service_supports_everything(target: Target, keyed: Target) -> None:
    assert {*features(target)} == {"keys"}
    assert features(keyed) == {}


@pytest.mark.parametrize("case", server_cases(), ids=lambda case: case.id)
def test_service_passes(case: ServerCase, target: Target, keyed: Target) -> None:
    result = judge(case, keyed if "keys" in case.needs else target, {})
    assert (result.verdict, result.detail) == ("ok", "")
    for message in result.seen:
        strict(message["type"]).validate(message)


def test_kit_is_a_command(target: Target) -> None:
    command = [sys.executable, "-m", "energyws.testing.conformance", target.url, "--only=WS-RESUME"]
    done = subprocess.run(
        command,
        env={**os.environ, "WS_TOKEN": target.token},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\n5 ok, 0 failed, 0 warnings, 0 skipped\n")
    assert target.token not in done.stdout


@pytest.mark.parametrize("name", examples(*REPLIES))
def test_example_of_a_client_message_gets_a_documented_reply(keyed: Target, name: str) -> None:
    message = examples(*REPLIES)[name]
    with Peer(keyed.url, additional_headers=keyed.credentials("header")[0]) as peer:
        answer = peer.ask(message)
    assert answer["type"] in REPLIES[message["type"]]
    strict(answer["type"]).validate(answer)
    # The example's position is not one of this topic, and its token is none.
    assert (answer["type"] == "error") is (message["type"] == "auth")


def test_service_says_the_rest_of_the_documented_messages(serve: Callable[..., Service]) -> None:
    # Every token expires soon.
    service = serve(auth={"expiry_notice_seconds": 7200}, server={"workers": 1}).ready()
    with open_peer(service) as peer:
        seen = [peer.until("notice")]
        epoch = peer.subscribe()["position"].partition("-")[0]
        far = f"{epoch}-{2**62}.{2**62}.{2**62}"
        peer.send({"type": "subscribe", "streams": ["energy"], "resume": {"energy": far}})
        seen.append(peer.until("lagged"))
        service.signal(signal.SIGTERM)
        seen.append(peer.until("reconnect"))
    for message in seen:
        strict(message["type"]).validate(message)
        example = next(iter(examples(message["type"]).values()))
        assert {*message} == {*example}
    assert {*MESSAGES} - {message["type"] for message in seen} == {
        # The kit's cases have these, and the answers to the examples.
        *(*REPLIES, "subscribed", "unsubscribed", "pong", "authenticated", "data", "error"),
        *("last", "end"),
        # What streams with keys say besides; tests/e2e/test_keyed_clients.py has it.
        *("position", "snapshot", "removed"),
    }
