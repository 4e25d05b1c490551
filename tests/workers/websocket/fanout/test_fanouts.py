"""Clients of every form share a stream."""

from __future__ import annotations

import pytest

from energyws.process.board import Field
from energyws.protocol.deflate import compress
from energyws.protocol.forms import Form
from energyws.protocol.frame import TEXT, encode
from energyws.protocol.keys import KeyFilter, escaped
from energyws.protocol.messages import Unrecovered
from energyws.stream.history import Chunk, StartPoint
from energyws.stream.ring import Entry
from tests.workers.websocket.fanout.keyed_stream import keys
from tests.workers.websocket.fanout.one_hub import (
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


def test_plain_and_compressed_clients_share_a_stream() -> None:
    record = encode(TEXT, b"[" + b"123," * 100 + b"4]")

    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        small = FakeClient(Form.DEFLATE)
        found(hub, "a")
        await turns(hub)
        for each in (client, small):
            hub.subscribe(each, subscribe("a"))
        hub.append("a", Entry(0, 6, 0, record))
        await turns(hub)
        assert client.frames == [record]
        assert small.frames == [compress(record)]
        hub.leave(small)
        hub.append("a", Entry(0, 7, 0, record))
        await turns(hub)
        assert (len(client.frames), len(small.frames)) == (2, 1)

    run(test)


def test_compressed_clients_follow_a_stream_to_its_new_rings() -> None:
    data = b'{"n":[' + b"123," * 100 + b"4]}"
    record = FRAMES.build(0, data, str(at(100, epoch="beef")))

    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        small = FakeClient(Form.DEFLATE)
        found(hub, "a")
        hub.subscribe(small, subscribe("a"))
        hub.set_floor("a", at(0, epoch="beef"))
        hub.append("a", Entry(0, 0, 0, record))
        await turns(hub)
        report, first = small.frames
        assert messages(report)[0]["reason"] == "EPOCH_CHANGED"
        assert first == compress(record)
        # The worker missed more than the consumer's ring has, so it requests the rest.
        hub.set_floor("a", at(50, epoch="beef"))
        await turns(hub)
        assert log.wanted == [at(1, epoch="beef")]
        log.chunks[at(1, epoch="beef")] = Chunk(
            at(1, epoch="beef"), at(50, epoch="beef"), 2, record * 2
        )
        hub.chunk_arrived("a", at(1, epoch="beef"))
        hub.tick()
        await turns(hub)
        assert small.frames[2:] == [compress(record * 2)]
        hub.append("a", Entry(0, 50, 0, record))
        await turns(hub)
        assert small.frames[3:] == [compress(record)]

    run(test)


Filters = dict[str, KeyFilter]


def keyed(offset: int, key: str) -> Entry:
    frame = FRAMES.build(0, b'{"n":%d}' % offset, str(at(offset + 1)), escaped(key))
    return Entry(0, offset, 0, frame)


def received(client: FakeClient) -> list[object]:
    """The offsets of the records that a client got, and the positions that it was told."""
    return [
        message["data"]["n"] if message["type"] == "data" else message["id"]  # type: ignore[index]
        for data in client.frames
        for message in messages(data)
    ]


def test_a_subscription_to_some_keys_and_one_to_all_replace_each_other() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "keyed")
        offset = 6
        for filters, expected in (
            ({"keyed": keys("x")}, [6]),
            ({}, [8, 9]),
            ({"keyed": keys("y")}, [11]),
            ({"keyed": keys("x", "y")}, [12, 13]),
        ):
            client.frames.clear()
            hub.subscribe(client, subscribe("keyed", filters=filters))
            await turns(hub)
            for key in "xy":
                hub.append("keyed", keyed(offset, key))
                offset += 1
            await turns(hub)
            assert received(client) == expected
        hub.unsubscribe(client, ("keyed",))
        hub.append("keyed", keyed(offset, "x"))
        await turns(hub)
        assert received(client) == [12, 13]

    run(test)


@pytest.mark.parametrize(
    "before", [{"keyed": keys("x")}, {"keyed": keys("x", prefixes=("y",))}, {}]
)
@pytest.mark.parametrize("after", [{"keyed": keys("x", "y")}, {"keyed": keys("x")}, {}])
@pytest.mark.parametrize("form", [Form.PLAIN, Form.DEFLATE])
def test_other_keys_begin_where_the_earlier_ones_were_served_to(
    before: Filters, after: Filters, form: Form
) -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        client.form = form
        found(hub, "keyed")
        hub.subscribe(client, subscribe("keyed", filters=before))
        hub.append("keyed", keyed(6, "x"))
        await turns(hub)
        # In the ring, and not written yet.
        hub.append("keyed", keyed(7, "x"))
        hub.subscribe(client, subscribe("keyed", filters=after))
        hub.append("keyed", keyed(8, "x"))
        await turns(hub)
        # Live again.
        hub.append("keyed", keyed(9, "x"))
        await turns(hub)
        plain_to_plain = not before and not after
        assert received(client) == ([6, 8, 9] if plain_to_plain else [6, 7, 8, 9])
        assert client.replies[1]["keyed"].position == str(at(8 if plain_to_plain else 7))

    run(test)


def test_other_keys_begin_where_a_client_that_does_not_read_was_served_to() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "keyed")
        hub.subscribe(client, subscribe("keyed", filters={"keyed": keys("x")}))
        client.writable = False
        hub.pause_writing(client)
        hub.append("keyed", keyed(6, "x"))
        await turns(hub)
        hub.subscribe(client, subscribe("keyed", filters={"keyed": keys("x", "y")}))
        await turns(hub)
        assert received(client) == []
        client.writable = True
        hub.resume_writing(client)
        hub.append("keyed", keyed(7, "y"))
        await turns(hub)
        assert received(client) == [6, 7]

    run(test)


def test_other_keys_begin_where_the_log_was_read_to() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "keyed")
        some = {"keyed": keys("x")}
        hub.subscribe(client, subscribe("keyed", resume={"keyed": str(at(3))}, filters=some))
        ((_, done),) = log.requests
        done(StartPoint(at(3), at(0)))
        await turns(hub)
        hub.subscribe(client, subscribe("keyed", filters={"keyed": keys("x", "y")}))
        await turns(hub)
        assert client.replies[1]["keyed"].position == str(at(3))
        records = b"".join(keyed(offset, key).frame for offset, key in ((3, "x"), (4, "y")))
        log.chunks[at(3)] = Chunk(at(3), at(5), 2, records)
        hub.chunk_arrived("keyed", at(3))
        await turns(hub)
        hub.append("keyed", keyed(6, "x"))
        await turns(hub)
        assert [each for each in received(client) if isinstance(each, int)] == [3, 4, 6]

    run(test)


def test_a_client_that_is_sent_away_is_told_where_it_is_and_gets_nothing_more() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "keyed")
        hub.subscribe(client, subscribe("keyed", filters={"keyed": keys("x")}))
        everything = FakeClient()
        hub.subscribe(everything, subscribe("keyed"))
        await turns(hub)
        hub.append("keyed", keyed(6, "y"))
        await turns(hub)
        for each in (client, everything):
            hub.dismiss(each)
        hub.append("keyed", keyed(7, "x"))
        await turns(hub)
        assert received(client) == [str(at(7))]
        assert received(everything) == [6]

    run(test)


def test_a_client_is_told_where_it_is_after_its_ping() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "keyed")
        hub.subscribe(client, subscribe("keyed", filters={"keyed": keys("x")}))
        hub.append("keyed", keyed(6, "y"))
        await turns(hub)
        hub.tell_positions(client)
        assert received(client) == [str(at(7))]

    run(test)


def test_a_scan_of_the_log_is_bounded() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "keyed")
        hub.subscribe(
            client, subscribe("keyed", resume={"keyed": str(at(1))}, filters={"keyed": keys("x")})
        )
        ((_, done),) = log.requests
        done(StartPoint(at(1), at(0)))
        ((reply,),) = [list(each.values()) for each in client.replies]
        assert (reply.position, reply.reason) == (str(at(3)), Unrecovered.HISTORY_EXCEEDED)
        assert (reply.replayed, reply.missing) == (None, None)

    run(test)


def test_subscriptions_to_keys_are_counted() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "keyed")
        for wanted in (keys("x", "y"), keys("y"), keys("y", prefixes=("z",))):
            hub.subscribe(FakeClient(), subscribe("keyed", filters={"keyed": wanted}))
        await turns(hub)
        hub.tick()
        row = hub._row
        assert (row[Field.KEYED_SUBSCRIPTIONS], row[Field.INDEX_KEYS]) == (3, 3)

    run(test)
