"""Faults of Kafka, of its records, and of the networks on both sides of the service."""

from __future__ import annotations

import random
import socket
import time
from typing import Final, cast

from confluent_kafka import Producer

from bench.faults.brokers import EmbeddedHandle, KafkaHandle
from bench.faults.fault import fault
from bench.faults.strangers import request
from bench.faults.verdict import Losses
from bench.faults.world import World
from bench.kit.record import PARTITIONS
from energyws.testing.proxy import TcpProxy

_EMBEDDED: Final = frozenset({"embedded"})
_KAFKA: Final = frozenset({"kafka"})
_NEW_LOG: Final = Losses(reasons=frozenset({"EPOCH_CHANGED"}), counted=False)
_TRIMMED: Final = Losses(reasons=frozenset({"RETENTION"}))
# Kafka's API keys of two requests, and one error code.
_FETCH: Final = 1
_METADATA: Final = 3
_NOT_LEADER: Final = 6
# Records of a replay that takes some seconds, and the number of clients that replay.
_REPLAYED: Final = 3_000
_REPLAYS: Final = 10


def _handle(world: World) -> EmbeddedHandle | KafkaHandle:
    return cast("EmbeddedHandle | KafkaHandle", world.broker)


def _take_down(world: World) -> None:
    """Take the broker down while no record is in flight.

    The embedded broker does not recognise a record that a producer retries because it lost the
    acknowledgement. The record would be in the log twice, which is not tested here.
    """
    world.producer.pause()
    world.producer.flush()
    _handle(world).down()
    world.producer.resume()


def _embedded(world: World) -> EmbeddedHandle:
    return cast("EmbeddedHandle", world.broker)


@fault(
    number=6,
    name="broker-down-at-start",
    title="broker unreachable while the service starts",
    expected="the service waits, not ready; clients connect and resume once the broker is back",
    bound_seconds=45,
)
def broker_down_at_start(world: World, rng: random.Random) -> None:
    world.service.stop()
    _take_down(world)
    try:
        world.service.start()
        world.wait(lambda: world.service.admin("/live")[0] == 200, "/live answers 200")
        world.pause(rng, 1.0)
        world.expect(world.service.admin("/ready")[0] == 503, "ready without a broker")
    finally:
        _handle(world).up()
    world.service.ready()


@fault(
    number=7,
    name="broker-down",
    title="broker killed under traffic, back after 1 to 4 s (a real Kafka: as soon as it starts)",
    expected="clients stay connected; records written meanwhile arrive once it is back",
    bound_seconds=45,
    stays_connected=True,
)
def broker_down(world: World, rng: random.Random) -> None:
    _take_down(world)
    time.sleep(rng.uniform(1, 4) if world.broker.kind == "embedded" else 0)
    _handle(world).up()


@fault(
    number=7,
    name="broker-unreachable",
    title="broker unreachable for a minute: no answer, no FIN",
    expected="clients stay connected; the service is not ready meanwhile; then everything arrives",
    brokers=_EMBEDDED,
    bound_seconds=60,
    stays_connected=True,
)
def broker_unreachable(world: World, rng: random.Random) -> None:
    proxy = _embedded(world).proxy
    proxy.blackhole(True)
    try:
        time.sleep(60)
        world.expect(world.service.admin("/ready")[0] == 503, "ready without a broker")
    finally:
        proxy.blackhole(False)


@fault(
    number=7,
    name="broker-restart",
    title="broker restarted cleanly (SIGTERM)",
    expected="clients stay connected; records written meanwhile arrive once it is back",
    brokers=_KAFKA,
    bound_seconds=45,
    stays_connected=True,
)
def broker_restart(world: World, rng: random.Random) -> None:
    cast("KafkaHandle", world.broker).restart()


@fault(
    number=8,
    name="broker-flapping",
    title="broker goes away and comes back every 0.2 s, for about 3 s",
    expected="clients stay connected and get everything; a few log lines, no descriptor leak",
    brokers=_EMBEDDED,
    bound_seconds=45,
    stays_connected=True,
)
def broker_flapping(world: World, rng: random.Random) -> None:
    for _ in range(rng.randint(6, 9)):
        _take_down(world)
        time.sleep(0.2)
        _embedded(world).up()
        time.sleep(0.2)


@fault(
    number=9,
    name="log-lost",
    title="broker back without its records (embedded: another topic id; Kafka: the same one)",
    expected="clients get EPOCH_CHANGED once, then everything in the new log",
    losses=_NEW_LOG,
    own_broker=True,
    bound_seconds=60,
)
def log_lost(world: World, rng: random.Random) -> None:
    world.producer.pause()
    targets = world.producer.flush()
    world.crowd.reach(targets, world.fault.bound_seconds, world.producer.offsets_after(targets))
    _handle(world).empty(world.topic)
    world.removed_all()
    world.producer.resume()


@fault(
    number=10,
    name="topic-recreated",
    title="topic deleted, recreated and filled again",
    expected="clients get EPOCH_CHANGED once, then everything in the new topic",
    losses=_NEW_LOG,
    bound_seconds=60,
)
def topic_recreated(world: World, rng: random.Random) -> None:
    world.producer.pause()
    targets = world.producer.flush()
    world.crowd.reach(targets, world.fault.bound_seconds, world.producer.offsets_after(targets))
    reached = max(world.producer.offset_after(p) for p in range(PARTITIONS))
    world.broker.delete_topic(world.topic)
    world.broker.create_topic(world.topic, PARTITIONS)
    world.removed_all()
    if rng.random() < 0.5:
        world.crowd.bounce(rng.sample(range(world.crowd.clients), world.crowd.clients // 4))
    # Not past the consumer's offset: until it fetches the topic's id again, it takes records past
    # that offset for those of the old topic (docs/reliability.md).
    world.producer.burst(min(600, PARTITIONS * (reached // 2)))
    world.producer.resume()


@fault(
    number=11,
    name="partition-added",
    title="a partition added to the topic",
    expected="it is read from its start; positions grow by one offset; old positions still resume",
    brokers=_KAFKA,
    own_broker=True,
)
def partition_added(world: World, rng: random.Random) -> None:
    broker = cast("KafkaHandle", world.broker)
    partitions = broker.partitions(world.topic)
    bad = world.service.board("consumer")["bad_records"]
    broker.add_partitions(world.topic, partitions + 1)
    world.wait(
        lambda: broker.partitions(world.topic) == partitions + 1, "the partition has been added"
    )
    # The harness's own producer discovers new partitions too late.
    writer = Producer({"bootstrap.servers": broker.direct})
    writer.list_topics(world.topic, timeout=10)
    writer.produce(world.topic, b"not a reading", partition=partitions)
    writer.flush(10)
    world.wait(
        lambda: world.service.board("consumer")["bad_records"] > bad, "the partition is read"
    )
    world.crowd.bounce(rng.sample(range(world.crowd.clients), world.crowd.clients // 4))


@fault(
    number=12,
    name="leader-change",
    title="fetches answered with NOT_LEADER, metadata requests dropped, 0.2 s of delay",
    expected="clients stay connected and get everything",
    brokers=_EMBEDDED,
    stays_connected=True,
)
def leader_change(world: World, rng: random.Random) -> None:
    broker = _embedded(world)
    broker.call("set_rtt", ms=200)
    try:
        broker.call("push_request_errors", api_key=_FETCH, codes=[_NOT_LEADER] * rng.randint(1, 9))
        broker.call("push_request_errors", api_key=_METADATA, codes=[-195] * rng.randint(1, 3))
        world.pause(rng, 1.0)
    finally:
        broker.call("set_rtt", ms=0)


@fault(
    number=13,
    name="retention-while-away",
    title="the service is down, more is written, and retention passes the clients' positions",
    expected="recovered: false, RETENTION and the exact number missing; then all that is left",
    losses=_TRIMMED,
)
def retention_while_away(world: World, rng: random.Random) -> None:
    world.service.stop()
    world.producer.pause()
    world.producer.burst(90)
    world.producer.flush()
    for partition in rng.sample(range(PARTITIONS), rng.randint(1, PARTITIONS)):
        low = world.producer.offset_after(partition) - rng.randint(1, 25)
        world.broker.trim(world.topic, partition, low)
        world.removed(partition, low)
    world.producer.resume()
    world.service.start().ready()


@fault(
    number=14,
    name="retention-in-replay",
    title="retention passes the position of clients in a long replay",
    expected="`lagged` with RETENTION in place of the records; then all that is left",
    losses=_TRIMMED,
    config={"history": {"max_frames": 60, "warm": 10, "bytes_per_second": 512 * 1024}},
    clients=40,
    rate=10,
    bound_seconds=60,
)
def retention_in_replay(world: World, rng: random.Random) -> None:
    world.producer.burst(_REPLAYED)
    world.producer.flush()
    world.clients_live()
    world.crowd.renew(rng.sample(range(world.crowd.clients), _REPLAYS))
    world.pause(rng, 1.0)
    for partition in rng.sample(range(PARTITIONS), rng.randint(1, PARTITIONS)):
        low = world.producer.offset_after(partition) - rng.randint(70, 300)
        world.broker.trim(world.topic, partition, low)
        world.removed(partition, low)


@fault(
    number=15,
    name="poison",
    title="bad records among good: empty, null, not JSON, no object, NUL, too big, many headers",
    expected="they are counted and skipped; every good one arrives; no client reconnects",
    config={"kafka": {"max_record_bytes": 65_536}},
    stays_connected=True,
)
def poison(world: World, rng: random.Random) -> None:
    bad = world.service.board("consumer")["bad_records"]
    values: list[bytes | None] = [
        None,
        b"",
        b"\0",
        b"not json",
        b"[1,2]",
        b'"text"',
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b"[" * 5000,
        b'{"a":"' + b"x" * 500_000 + b'"}',
    ]
    rng.shuffle(values)
    for value in values:
        bombs = [(f"h{n}", b"x" * 1000) for n in range(rng.choice((0, 50)))]
        world.producer.raw(value, rng.randrange(PARTITIONS), headers=bombs)
        world.pause(rng, 0.02)
    world.wait(
        lambda: world.service.board("consumer")["bad_records"] >= bad + len(values),
        "every bad record is counted",
    )


@fault(
    number=29,
    name="client-cut-off",
    plain_only=True,
    title="a client's network goes silent: no FIN, no answer",
    expected="it is disconnected after the ping and pong timeouts; the others notice nothing",
    config={"server": {"ping_interval_seconds": 1, "pong_timeout_seconds": 1}},
    stays_connected=True,
)
def client_cut_off(world: World, rng: random.Random) -> None:
    before = world.connections()
    with (
        TcpProxy("127.0.0.1", world.service.port) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port)) as client,
    ):
        client.sendall(request())
        world.wait(lambda: world.connections() == before + 1, "the client is connected")
        proxy.blackhole(True)
        world.wait(lambda: world.connections() == before, "the client is disconnected", 10)
        proxy.blackhole(False)


@fault(
    number=32,
    name="keys-unavailable",
    title="the issuer's keys are unavailable while a worker is replaced and all clients reconnect",
    expected="the other worker keeps its keys; the new one says 503 until it has keys; all resume",
    issuer=True,
    config={"auth": {"jwks_refresh_seconds": 1.0}},
    bound_seconds=45,
)
def keys_unavailable(world: World, rng: random.Random) -> None:
    assert world.issuer is not None
    world.issuer.down = True
    try:
        world.kill(rng.choice(world.workers))
        world.crowd.bounce(range(world.crowd.clients))
        world.pause(rng, 2.0)
    finally:
        world.issuer.down = False
    world.service.ready()
