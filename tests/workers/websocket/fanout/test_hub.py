"""What a hub does with frames and floors, and when its fan-outs get turns."""

from __future__ import annotations

import asyncio

import pytest

from energyws.protocol.forms import Form
from energyws.stream.ring import Entry
from energyws.testing import until
from tests.workers.websocket.fanout.one_hub import (
    EPOCH,
    FRAME,
    FakeClient,
    ScriptedLog,
    at,
    found,
    run,
    subscribe,
    turns,
)
from tests.workers.websocket.fanout.one_stream import FRAMES, messages
from workers.websocket.fanout.hub import Hub


@pytest.mark.parametrize("form", [Form.PLAIN, Form.DEFLATE])
def test_plain_subscribe_that_waited_for_its_topic_gets_no_old_records(form: Form) -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        client.form = form
        hub.subscribe(client, subscribe("a"))
        hub.set_floor("a", at(0))
        for offset in range(60):
            hub.append("a", Entry(0, offset, 0, b"old"))
        # The rest of the consumer's records comes later, so this client is early, too.
        early = FakeClient(form)
        hub.subscribe(early, subscribe("a"))
        for offset in range(60, 90):
            hub.append("a", Entry(0, offset, 0, b"old"))
        hub.synced()
        late = FakeClient(form)
        hub.subscribe(late, subscribe("a"))
        hub.append("a", Entry(0, 90, 0, b"new"))
        await until(lambda: bool(client.frames and early.frames and late.frames))
        await turns(hub)
        for each in (client, early, late):
            assert [reply["a"].position for reply in each.replies] == [f"{EPOCH}-90"]
            assert each.frames == [b"new"]

    run(test)


def test_plain_subscribe_after_the_topic_was_recreated_gets_no_old_records() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        here = FakeClient()
        hub.subscribe(here, subscribe("a"))
        hub.set_floor("a", at(0, epoch="beef"))
        hub.subscribe(client, subscribe("a"))
        for offset in range(3):
            hub.append("a", Entry(0, offset, 0, b"old"))
        hub.synced()
        await until(lambda: len(here.frames) > 1)
        hub.append("a", Entry(0, 3, 0, b"new"))
        await until(lambda: bool(client.frames))
        await turns(hub)
        # For a client that subscribed before, all records of the new topic are new.
        assert b"".join(here.frames).endswith(b"oldoldoldnew")
        assert [reply["a"].position for reply in client.replies] == ["beef-3"]
        assert client.frames == [b"new"]

    run(test)


def test_plain_subscribe_begins_after_records_still_to_be_fanned_out() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        here = FakeClient()
        hub.subscribe(here, subscribe("a"))
        await turns(hub)
        hub.append("a", Entry(0, 6, 0, b"6"))
        hub.subscribe(client, subscribe("a"))
        hub.append("a", Entry(0, 7, 0, b"7"))
        await turns(hub)
        hub.append("a", Entry(0, 8, 0, b"8"))
        await turns(hub)
        assert [reply["a"].position for reply in client.replies] == [f"{EPOCH}-7"]
        assert (b"".join(here.frames), b"".join(client.frames)) == (b"678", b"78")

    run(test)


@pytest.fixture
def long_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.websocket.fanout.turns.REST_SHARE", 1e9)
    # Longer than a busy machine keeps the test waiting.
    monkeypatch.setattr("workers.websocket.fanout.turns.MAX_REST_SECONDS", 0.5)


@pytest.mark.usefixtures("long_rests")
def test_frames_soon_after_a_fan_out_share_the_next_one() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a", "b")
        hub.subscribe(client, subscribe("a", last=1))
        await until(lambda: client.frames == [FRAME])
        hub.append("a", Entry(0, 6, 0, b"6"))
        await asyncio.sleep(0)
        hub.append("a", Entry(0, 7, 0, b"7"))
        await until(lambda: len(client.frames) == 2)
        assert client.frames == [FRAME, b"67"]

    run(test)


@pytest.mark.usefixtures("long_rests")
def test_subscribe_ends_a_rest() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a", "b")
        hub.subscribe(client, subscribe("a", last=1))
        await until(lambda: client.frames == [FRAME])
        hub.append("a", Entry(0, 6, 0, b"6"))
        assert hub.turns.resting
        late = FakeClient()
        hub.subscribe(late, subscribe("a", last=2))
        assert not hub.turns.resting
        await until(lambda: late.frames == [FRAME + b"6"])

    run(test)


def test_position_of_a_record_covers_the_ring_though_a_new_consumer_read_in_another_order() -> None:
    def entry(partition: int, offset: int, *position: int) -> Entry:
        return Entry(partition, offset, 0, FRAMES.build(0, b"{}", str(at(*position))))

    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        hub.set_floor("a", at(0, 0))
        hub.synced()
        hub.subscribe(client, subscribe("a"))
        hub.append("a", entry(0, 0, 1, 0))
        hub.append("a", entry(0, 1, 2, 0))
        # It was replaced, and its successor reads partition 1 first.
        hub.set_floor("a", at(0, 0))
        exact = entry(1, 1, 2, 2)
        for each in (entry(1, 0, 0, 1), entry(0, 0, 1, 1), entry(0, 1, 2, 1), exact):
            hub.append("a", each)
        hub.synced()
        await turns(hub)
        received = [message for data in client.frames for message in messages(data)]
        assert [message["id"] for message in received] == [
            str(at(*offsets)) for offsets in ((1, 0), (2, 0), (2, 1), (2, 2))
        ]

    run(test)


@pytest.mark.parametrize("known", [False, True])
def test_subscription_waits_while_its_stream_is_disputed(known: bool) -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        if known:
            found(hub, "keyed")
        hub.dispute(["keyed"])
        hub.synced()
        other = FakeClient()
        assert not hub.subscribe(client, subscribe("a", "keyed"))
        assert hub.subscribe(other, subscribe("a"))
        assert (len(client.replies), len(other.replies)) == (0, 1)
        hub.dispute([])
        if not known:
            found(hub, "keyed")
        hub.synced()
        assert [sorted(reply) for reply in client.replies] == [["a", "keyed"]]

    run(test)


def test_live_subscription_keeps_its_place_while_its_stream_is_disputed() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "keyed")
        assert hub.subscribe(client, subscribe("keyed"))
        hub.dispute(["keyed"])
        hub.synced()
        hub.dispute([])
        hub.set_floor("keyed", at(4))
        frame = FRAMES.build(0, b"{}", f"{EPOCH}-7")
        hub.append("keyed", Entry(0, 6, 0, frame))
        hub.synced()
        await turns(hub)
        assert client.frames == [frame]

    run(test)
