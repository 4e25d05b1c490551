"""Both clients, each subscribed to one meter of several, on a real service."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import aclosing
from itertools import count

import pytest

from energyws.client import Client, Reading
from energyws.testing import PARTITIONS, Broker, Records, Service, config, token
from tests.clients import open_peer
from tests.conftest import new_topic
from tests.contract.schemas import strict
from tests.web.agent import node

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

_meters = count()


@pytest.fixture(scope="module")
def shared(
    broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Records]]:
    """A ready service whose stream has keys, the field `meter`, and a producer for its topic."""
    topic = new_topic(broker)
    streams = {"energy": {"topic": topic, "key": "/meter", "snapshot": {"enabled": True}}}
    chosen = config(broker.bootstrap, topic, streams=streams, server={"position_seconds": 0.5})
    with Service(tmp_path_factory.mktemp("service"), chosen) as service:
        yield service.ready(), Records(broker.bootstrap, topic)
        print("\n".join(service.lines))


@pytest.fixture
def meters() -> list[str]:
    """Three meters that no other test has."""
    return [f"meter {next(_meters)}" for _ in range(3)]


async def live(client: Client) -> None:
    while client.state != "live":
        await asyncio.sleep(0.01)


async def read(client: Client, wanted: int) -> list[tuple[str | None, int]]:
    """Key and number of the next readings."""
    found = []
    async with aclosing(client.messages()) as messages, asyncio.timeout(30):
        async for message in messages:
            assert isinstance(message, Reading)
            found.append((message.key, message.data["n"]))
            if len(found) == wanted:
                break
    return found


def test_silent_meter_does_not_hold_the_position(
    service: Service, producer: Records, meters: list[str]
) -> None:
    silent, loud, _ = meters

    async def main() -> None:
        async with Client(service.url, token=token(), keys=silent) as client:
            reading = asyncio.create_task(anext(client.messages(), None))
            await live(client)
            before = client.positions
            await asyncio.to_thread(producer.send, 9, meter=loud)
            while client.positions == before:
                await asyncio.sleep(0.01)
            await client.close()
            assert await reading is None

    asyncio.run(asyncio.wait_for(main(), 30))
    with open_peer(service) as peer:
        peer.send({"type": "subscribe", "streams": ["energy"], "keys": {"energy": [silent]}})
        assert peer.receive()["keys"] == {"energy": 1}
        producer.send(3, meter=loud)
        strict("position").validate(peer.until("position"))


def test_newest_reading_of_each_meter_comes_first(
    service: Service, producer: Records, meters: list[str]
) -> None:
    producer.send(1, meter=meters[0])
    producer.send(PARTITIONS - 1, meter="another one")
    # In the same partition, or they would have no order.
    newest = [*producer.send(1, meter=meters[0]), *producer.send(1, meter=meters[1])]
    service.caught_up(producer)

    async def main() -> list[Reading]:
        found: list[Reading] = []
        async with Client(service.url, token=token(), keys=meters, snapshot=True) as client:
            async for message in client:
                assert isinstance(message, Reading)
                found.append(message)
                if len(found) == 2:
                    assert client.snapshots["energy"].keys == 2
                    await asyncio.to_thread(producer.send, 1, meter=meters[2])
                if len(found) == 3:
                    await client.close()
        return found

    *first, live_one = asyncio.run(asyncio.wait_for(main(), 30))
    found = {each.key: each.data["n"] for each in first}
    assert found == dict(zip(meters, newest, strict=False))
    assert [each.is_snapshot for each in (*first, live_one)] == [True, True, False]
    with node() as agent:
        job = agent.start(service.url, token=token(), keys=meters[:2], snapshot=True)
        job.wait(lambda: len(job.numbers) == 2, "the snapshot")
        job.stop()
    assert sorted(job.numbers) == newest
    with open_peer(service) as peer:
        keys = {"energy": meters}
        peer.send({"type": "subscribe", "streams": ["energy"], "keys": keys, "snapshot": True})
        for kind in ("subscribed", *["snapshot"] * 3, "position"):
            message = peer.receive()
            assert message["type"] == kind
            strict(kind).validate(message)


def test_what_came_and_what_was_superseded_is_everything(
    service: Service, producer: Records, meters: list[str]
) -> None:
    found: list[int] = []

    async def follow(client: Client) -> None:
        async for message in client:
            assert isinstance(message, Reading)
            found.append(message.data["n"])

    async def main() -> int:
        async with Client(service.url, token=token(), keys=meters[0], max_rate=2) as client:
            following = asyncio.create_task(follow(client))
            await live(client)
            written = await asyncio.to_thread(producer.send, 30, meter=meters[0])
            while len(found) + client.conflated < len(written):
                await asyncio.sleep(0.01)
            assert {*found} < {*written}
            await client.close()
            await following
        return client.conflated

    superseded = asyncio.run(asyncio.wait_for(main(), 30))
    assert len({*found}) + superseded == 30


def test_javascript_gets_its_meters(service: Service, producer: Records, meters: list[str]) -> None:
    with node() as agent:
        first, _, third = meters
        job = agent.start(service.url, token=token(), keys={"energy": [first, third]}).live()
        numbers = [producer.send(3, meter=meter) for meter in meters]
        job.wait(lambda: len(job.numbers) == 6, "the readings of two meters")
        job.stop()
        assert sorted(job.numbers) == [*numbers[0], *numbers[2]]
        # Only a token gives the right to all that begin so.
        refused = agent.start(service.url, token=token(), keys="meter*").refused()
    assert refused["code"] == "FORBIDDEN_KEY"
    assert not service.logged("meter*")


def test_python_gets_its_meter_once_over_a_roll(
    service: Service, producer: Records, meters: list[str]
) -> None:
    mine, other, _ = meters
    written: list[int] = []

    async def main() -> list[tuple[str | None, int]]:
        client = Client(service.url, token=token(), keys=mine)
        reading = asyncio.create_task(read(client, 8))
        await live(client)
        written.extend(await asyncio.to_thread(producer.send, 4, meter=mine))
        await asyncio.to_thread(producer.send, 4, meter=other)
        service.signal(signal.SIGUSR2)
        while client.connects < 2:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(producer.send, 4, meter=other)
        written.extend(await asyncio.to_thread(producer.send, 4, meter=mine))
        return await reading

    found = asyncio.run(asyncio.wait_for(main(), 60))
    assert sorted(found) == [(mine, number) for number in written]
