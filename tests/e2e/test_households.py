"""Households whose tokens name their meters: by every way in, each gets its own and no other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.request import urlopen

import jwt
import pytest

from energyws.testing import SECRET, Broker, Records, Service, config, eventually
from tests.clients import PATIENCE_SECONDS, Peer, open_peer
from tests.conftest import new_topic
from tests.http_clients import EventSource, fetch

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

# No log, error or metric may have any of them.
OURS, THEIRS, NOBODYS = "canary-0001", "canary-0002", "canary-0003"
SUBSCRIBE = {"type": "subscribe", "streams": ["energy"]}
HISTORY = {"max_frames": 5, "warm": 5}


@pytest.fixture(scope="module")
def home(
    broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Records]]:
    """A service whose stream gives each client the keys of its token, and a producer."""
    topic = new_topic(broker)
    keyed = {"key": "/meter", "access": "keyed", "snapshot": {"enabled": True}}
    streams = {"energy": {"topic": topic, **keyed}}
    chosen = config(
        broker.bootstrap, topic, streams=streams, history=HISTORY, log={"level": "DEBUG"}
    )
    with Service(tmp_path_factory.mktemp("service"), chosen) as service:
        yield service.ready(), Records(broker.bootstrap, topic)


def bearer(keys: object) -> str:
    """A token that names these keys; None: none."""
    claims = {"sub": "household", "exp": int(time.time()) + 600}
    named = {} if keys is None else {"keys": keys}
    return jwt.encode({**claims, **named}, SECRET, "HS256")


def header(keys: object) -> str:
    return f"Authorization: Bearer {bearer(keys)}"


def peer(service: Service, keys: object, query: str = "") -> Peer:
    headers = {"Authorization": f"Bearer {bearer(keys)}"}
    return open_peer(service, query=query and "?" + query, additional_headers=headers)


def write(records: Records, count: int) -> list[int]:
    """Records of all meters in turn, and some without a meter; the numbers of our own."""
    ours = []
    for _ in range(count):
        records.send(1, meter=THEIRS)
        ours += records.send(1, meter=OURS)
        records.send(1)
        records.send(1, meter=NOBODYS)
    return ours


def meters(messages: list[dict[str, Any]]) -> set[str]:
    return {each["data"]["meter"] for each in messages}


def test_each_client_gets_the_meters_of_its_token(home: tuple[Service, Records]) -> None:
    service, records = home
    with ExitStack() as stack:
        # As energy-ws had it: no keys are asked for.
        seed, both, everything = (
            stack.enter_context(peer(service, keys))
            for keys in (OURS, [OURS, THEIRS], {"energy": "canary-*"})
        )
        counts = [each.ask(SUBSCRIBE)["keys"]["energy"] for each in (seed, both, everything)]
        assert counts == [1, 2, 1]
        source = stack.enter_context(EventSource(service, "", header(OURS)))
        source.until("subscribed")
        ours = write(records, 3)
        for each, known in ((seed, {OURS}), (both, {OURS, THEIRS})):
            got = [each.until("data") for _ in range(3 * len(known))]
            assert {message["key"] for message in got} == meters(got) == known
        assert len([everything.until("data") for _ in range(9)]) == 9
        assert sorted(source.numbers(3)) == ours


def test_what_was_missed_comes_from_memory_and_from_the_log(home: tuple[Service, Records]) -> None:
    service, records = home
    with peer(service, OURS) as client:
        begin = client.ask(SUBSCRIBE)["positions"]["energy"]["position"]
    ours = write(records, 10)
    for keys, query in ((OURS, ""), ([OURS, THEIRS], f"&key={OURS}")):
        with peer(service, keys, query=f"subscribe=energy&resume={begin}{query}") as client:
            assert client.until("subscribed")["positions"]["energy"]["recovered"]
            assert sorted(client.numbers(10)) == ours
    mine = header(OURS)
    lines = fetch(service, f"/history/energy?after={begin}&limit=100", mine).lines
    assert sorted(line["data"]["n"] for line in lines if line["type"] == "data") == ours
    assert meters(fetch(service, "/last/energy?last=3", mine).json["records"]) == {OURS}


@pytest.mark.parametrize(
    ("keys", "query", "own"),
    [
        (OURS, "", [OURS]),
        ([OURS, THEIRS], "", [OURS, THEIRS]),
        ([OURS, THEIRS], f"&key={OURS}", [OURS]),
        ([OURS, f"{THEIRS}*"], "", [OURS, THEIRS]),
    ],
)
def test_snapshot_has_the_newest_record_of_each_own_meter(
    home: tuple[Service, Records], keys: object, query: str, own: list[str]
) -> None:
    service, records = home
    with peer(service, OURS, query="subscribe=energy") as client:
        client.until("subscribed")
        newest = write(records, 1)[0]
        client.until("data")
        numbers = {OURS: newest, THEIRS: newest - 1}
    with peer(service, keys, query=f"subscribe=energy&snapshot=1{query}") as client:
        client.until("subscribed")
        got = {each["key"]: each["data"]["n"] for each in (client.receive() for _ in own)}
        assert got == {key: numbers[key] for key in own}
        assert client.receive()["type"] == "position"
        ours = write(records, 1)
        assert {client.until("data")["key"] for _ in own} == {*own}
    if query:
        return
    with EventSource(service, "?snapshot=1", header(keys)) as source:
        events = [source.until("snapshot").json for _ in own]
        assert {each["key"] for each in events} == {*own}
        assert any(each["data"]["n"] == ours[0] for each in events)


REFUSED: list[tuple[object, str]] = [
    (None, ""),
    ([], ""),
    (THEIRS, f"key={OURS}"),
    (THEIRS, f"key={THEIRS}&key={OURS}"),
    (OURS, "key=canary*"),
    ({"water": OURS}, ""),
]


@pytest.mark.parametrize(("keys", "query"), REFUSED)
def test_nobody_gets_more_by_any_way_in(
    home: tuple[Service, Records], keys: object, query: str
) -> None:
    service, _ = home
    with peer(service, keys, query=f"subscribe=energy&{query}") as client:
        assert client.until("error")["code"] == "FORBIDDEN_KEY"
        # The connection is good for what its token allows.
        client.send({"type": "ping"})
        client.until("pong")
    ways = ("/sse/energy?", "/sse/energy?snapshot=1&", "/last/energy?", "/history/energy?last=1&")
    for path in ways:
        answer = fetch(service, path + query, header(keys))
        assert (answer.status, answer.json["code"]) == (403, "FORBIDDEN_KEY")


def test_keys_are_in_no_log_and_in_no_metric(home: tuple[Service, Records]) -> None:
    service, records = home
    with peer(service, [OURS]) as client:
        client.subscribe()
        client.send({"type": "subscribe", "streams": ["energy"], "keys": {"energy": [THEIRS]}})
        assert client.until("error")["code"] == "FORBIDDEN_KEY"
        bad = {"type": "subscribe", "streams": ["energy"], "keys": {"energy": OURS}}
        assert client.ask(bad)["code"] == "BAD_MESSAGE"
        write(records, 1)
        client.until("data")
    eventually(lambda: service.logged("WebSocket client disconnected"), "the end in the log")
    assert not service.logged("canary")
    url = f"http://127.0.0.1:{service.admin_port}/metrics"
    with urlopen(url, timeout=PATIENCE_SECONDS) as response:
        assert b"canary" not in response.read()
