"""Batches go past the transports, and still every client gets whole messages in their order.

Real sessions, event streams, hub, batches and send queue, over simulated sockets, transports and
kernel, in random interleavings of everything that can happen to a client.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import orjson
import pytest
from picows import WSMsgType

from energyws.errors import BAD_MESSAGE, NORMAL
from energyws.process.board import Board, Row
from energyws.protocol import event_stream
from energyws.protocol.deflate import compress
from energyws.protocol.forms import Form
from energyws.protocol.frame import DataFrames, lagged
from energyws.protocol.keys import escaped
from energyws.protocol.messages import OnLag, Subscribe
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History, Limits, Server, Stream
from energyws.stream.ring import Entry
from tests.principals import principal
from tests.workers.websocket.fanout.keyed_stream import keys
from tests.workers.websocket.fanout.simulated import (
    Loop,
    Reader,
    Socket,
    Sockets,
    Transport,
    WebSocket,
)
from tests.workers.websocket.io_uring.simulated import SimulatedKernel
from tests.workers.websocket.recording import Journal, RecordingRegistry, client_frame
from workers import runtime
from workers.websocket.auth.key_access import KeyAccess
from workers.websocket.clients.context import Context
from workers.websocket.clients.event_stream import EventStream
from workers.websocket.clients.session import Session
from workers.websocket.fanout import batch, catch_up, groups, hub, keyed_live, live, turns
from workers.websocket.fanout.hub import Hub
from workers.websocket.shares import Shares

STREAMS = ("energy", "prices")
# Records have these keys in turn; some clients want all of their streams, others the keys of one of
# these, so that there are clients of each kind beside others that want the same.
KEYS = tuple(f"key-{number}" for number in range(6))
WANTED = (None, None, KEYS[:1], KEYS[1:3], KEYS[3:4], KEYS[:5])
FRAMES = {name: DataFrames(name) for name in STREAMS}
EXTENSION = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
MOST_CLIENTS = 12
RUNS = 200
STEPS = 250


class NoLog:
    """Of a history that nobody needs: the rings have everything."""

    waiting = 0

    def tick(self) -> None:
        """Nothing is sent again."""

    def listen(self, listener: object) -> None:
        """It never has anything to say."""

    def withdraw(self, requester: object, stream: str) -> None:
        """Nobody waits for anything."""

    def forget(self, stream: str) -> None:
        """There is nothing to forget."""


class Client:
    """A session or an event stream, with its transport, and the remote program that reads."""

    def __init__(
        self,
        world: World,
        form: Form,
        name: str,
        streams: tuple[str, ...],
        room: int = 3_000,
        wanted: tuple[str, ...] | None = None,
    ) -> None:
        self.form = form
        self.wanted = wanted
        self.name = name
        # Its last message may have been cut off.
        self.broken = False
        self.socket: Socket = world.sockets.new(room)
        filters = {} if wanted is None else dict.fromkeys(streams, keys(*wanted))
        request = Subscribe(streams, {}, None, OnLag.SKIP, filters=filters)
        owner = principal(name, 2e9)
        if form is Form.SSE:
            self.session: Any = EventStream(world.context, owner, "", request, {}, as_events=True)
            self.session.connection = None
            protocol: Any = self.session
        else:
            extension = EXTENSION if form is Form.DEFLATE else None
            self.session = Session(world.context, owner, "", request, extension)
            protocol = WebSocket(self.session, name, extension)
        self.protocol = protocol
        self.transport = Transport(world.loop, world.sockets, self.socket, protocol)
        if form is Form.SSE:
            self.session.connection_made(self.transport)
            self.session.begin(b"")
        else:
            protocol.underlying_transport = self.transport
            self.session.on_ws_connected(protocol)

    def receives(self, kind: WSMsgType, payload: bytes) -> None:
        """The session gets a frame from its client."""
        if self.form is not Form.SSE and not self.transport.read_paused:
            self.session.on_ws_frame(self.protocol, client_frame(kind, payload))

    def check(self) -> Reader:
        """Every byte that went out to it."""
        reader = Reader(self.form, self.name, self.wanted)
        reader.feed(bytes(self.socket.taken))
        return reader


class World:
    """A worker's clients, and everything that can happen to them, at random."""

    def __init__(self, seed: int, row: Row) -> None:
        # The fan-outs use it, too.
        random.seed(seed)
        self.loop = Loop()
        self.sockets = Sockets()
        self.kernel = SimulatedKernel(self.send)
        self.kernel.shuffle = random.shuffle
        self.queue = self.kernel.queue()
        self.happened: Counter[str] = Counter()
        log: Any = NoLog()
        with patch("asyncio.get_running_loop", return_value=self.loop):
            self.hub = Hub(STREAMS, History(), log, row, lambda: None, self.queue, keyed=STREAMS)
        registry: Any = RecordingRegistry(Journal())
        limit = random.choice([150, 600, 3_000])
        server = Server(messages_per_second=1e9, write_buffer_bytes=limit)
        shares = Shares(Board.create().usage(0), row, Limits())
        streams = {name: Stream(topic=name) for name in STREAMS}
        keys = KeyAccess(streams, shares, row)
        self.context = Context(server, self.hub, registry, SimpleNamespace(), row, shares, keys)  # type: ignore[arg-type]
        # What all get, in every form, to know where a message was cut off.
        self.broadcast: list[bytes] = []
        self.epochs = dict.fromkeys(STREAMS, 0)
        self.sent = dict.fromkeys(STREAMS, 0)
        for name in STREAMS:
            self.begin(name)
        self.clients: list[Client] = []
        for _ in range(MOST_CLIENTS // 2):
            self.connect()

    def send(self, descriptor: int, data: bytes) -> int:
        result = self.sockets.send(descriptor, data)
        self.happened["queued"] += result == len(data)
        self.happened["short"] += 0 < result < len(data)
        self.happened["refused"] += result < 0
        return result

    @property
    def alive(self) -> list[Client]:
        return [each for each in self.clients if not each.transport.closing]

    def step(self) -> None:
        names, weights = zip(*STEPS_WEIGHTS.items(), strict=True)
        (name,) = random.choices(names, weights)
        getattr(self, name)()
        self.happened[name] += 1

    def connect(self) -> None:
        if len(self.sockets.open) >= MOST_CLIENTS:
            return
        form = random.choice([Form.PLAIN, Form.PLAIN, Form.DEFLATE, Form.SSE])
        streams = STREAMS[: 1 if form is Form.SSE else random.randint(1, 2)]
        name = f"client-{len(self.clients)}-"
        room = random.randint(200, 3_000)
        self.clients.append(Client(self, form, name, streams, room, random.choice(WANTED)))

    def begin(self, stream: str) -> None:
        """Its topic is created, or created anew."""
        before = self.head(stream)
        self.epochs[stream] += 1
        self.sent[stream] = 0
        floor = self.head(stream)
        self._remember(lagged(stream, None, str(before), str(floor), "EPOCH_CHANGED"))
        self.hub.set_floor(stream, floor)
        self.hub.synced()

    def head(self, stream: str) -> Position:
        return from_offsets(f"{self.epochs[stream]:08x}", [self.sent[stream]])

    def _remember(self, frame: bytes) -> None:
        self.broadcast += [frame, compress(frame), event_stream.encode(frame)]

    def recreate(self) -> None:
        self.begin(random.choice(STREAMS))

    def record(self) -> None:
        pad = "".join(random.choices("abcdefgh", k=random.randint(0, 150)))
        self.append(random.choice(STREAMS), pad)

    def append(self, stream: str, pad: str) -> None:
        number = self.sent[stream]
        data = orjson.dumps({"n": number, "pad": pad})
        self.sent[stream] += 1
        key = escaped(KEYS[number % len(KEYS)])
        frame = FRAMES[stream].build(number, data, str(self.head(stream)), key)
        self._remember(frame)
        self.hub.append(stream, Entry(0, number, 0, frame))

    def run(self) -> None:
        turns.WRITES_PER_TURN = random.randint(1, 30)
        self.loop.run(random.randint(1, 4))

    def write(self) -> None:
        waiting = [each for each in self.clients if each.transport.waits_for_room]
        waiting = [each for each in waiting if each.socket.room > 0 or each.socket.reset]
        if waiting:
            random.choice(waiting).transport.on_room()

    def read(self) -> None:
        for client in random.sample(self.alive, min(3, len(self.alive))):
            unread = len(client.socket.taken) - client.socket.read
            client.socket.read += random.randint(0, unread)

    def ping(self) -> None:
        self._anyone(lambda client: client.receives(WSMsgType.PING, b"are you there"))

    def ask(self) -> None:
        self._anyone(lambda client: client.receives(WSMsgType.TEXT, b'{"type":"ping"}'))

    def subscribe(self) -> None:
        verb = random.choice(["subscribe", "subscribe", "unsubscribe"])
        streams = random.sample(STREAMS, random.randint(1, 2))
        message = orjson.dumps({"type": verb, "streams": streams})

        def receives(client: Client) -> None:
            # The message names no keys, and would ask for all.
            if client.wanted is None or verb == "unsubscribe":
                client.receives(WSMsgType.TEXT, message)

        self._anyone(receives)

    def error(self) -> None:
        self._anyone(lambda client: client.session.send_error(BAD_MESSAGE, "x" * 50))

    def heartbeat(self) -> None:
        for client in self.alive:
            client.session.ping()

    def tell(self) -> None:
        """A second passes."""
        self.hub._position_seconds = random.choice([1e-6, 20.0])
        self.hub.tick()

    def fall_silent(self) -> None:
        """Its next sends fail, though it is still there: the kernel is short of memory."""

        def fail(client: Client) -> None:
            client.broken = True
            client.socket.fails.extend([errno.ENOMEM] * random.randint(1, 3))

        self._anyone(fail)

    def end(self) -> None:
        """The client has ended its side, and may still read."""

        def ended(client: Client) -> None:
            if client.transport.read_paused:
                return
            client.broken = True
            if client.form is Form.SSE:
                client.session.eof_received()
            client.transport.close()

        self._anyone(ended)

    def say_goodbye(self) -> None:
        self._anyone(lambda client: client.receives(WSMsgType.CLOSE, (1000).to_bytes(2, "big")))

    def send_away(self) -> None:
        self._anyone(lambda client: client.session.close(NORMAL))

    def reset(self) -> None:
        def broken(client: Client) -> None:
            client.broken = client.socket.reset = True
            if random.random() < 0.5:
                client.transport.abort()

        self._anyone(broken)

    def abort(self) -> None:
        def aborted(client: Client) -> None:
            client.broken = True
            client.session.abort()

        self._anyone(aborted)

    def trouble(self) -> None:
        """The kernel takes fewer for a while, is busy, or answers late."""
        busy = [-errno.EAGAIN, -errno.EINTR, 1, 2, 3]
        self.kernel.faults.extend(random.choices(busy, k=random.randint(1, 4)))
        self.kernel.late = not self.kernel.late

    def fail(self) -> None:
        """The queue can be used no more."""
        self.kernel.faults.append(-errno.EPERM)

    def finish(self) -> None:
        """Everyone reads on until nothing is left to do."""
        turns.WRITES_PER_TURN = 1_000
        for _ in range(10_000):
            for socket in self.sockets.open.values():
                socket.read = len(socket.taken)
            waiting = [each for each in self.clients if each.transport.waits_for_room]
            for client in waiting:
                client.transport.on_room()
            if not waiting and not self.loop.ready:
                return
            self.loop.run(1_000)
        raise AssertionError("no end")

    def check(self) -> None:
        for client in self.clients:
            reader = client.check()
            if reader.rest:
                assert client.broken
                self._check_cut_off(client, reader.rest)
            if not client.session.closing:
                for name, number in reader.next.items():
                    assert reader.next_wanted(number) >= self.sent[name]
            self.happened["delivery"] += reader.records
            self.happened["position"] += reader.positions

    def _check_cut_off(self, client: Client, rest: bytes) -> None:
        """It is the beginning of one message, not of one and something of the next."""
        if rest.startswith(b"HTTP/1.1 "):
            assert b"\r\n\r\n" not in rest
        elif rest[0] in (0x81, 0x88, 0x89, 0x8A):
            assert all(byte < 0x80 for byte in rest[4:])
        elif client.form is Form.SSE and not rest.startswith(b"id: "):
            assert rest.count(b"id: ") + rest.count(b"data: ") <= 2
        else:
            assert any(frame.startswith(rest) for frame in self.broadcast)

    def _anyone(self, act: Any) -> None:
        if self.alive:
            act(random.choice(self.alive))


STEPS_WEIGHTS = {
    "record": 30,
    "run": 40,
    "write": 20,
    "read": 25,
    "connect": 20,
    "ping": 4,
    "ask": 2,
    "subscribe": 5,
    "error": 2,
    "heartbeat": 1,
    "tell": 4,
    "fall_silent": 3,
    "end": 4,
    "say_goodbye": 1,
    "send_away": 1,
    "reset": 1,
    "abort": 1,
    "trouble": 3,
    "fail": 0.2,
    "recreate": 0.5,
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices, batches and turns so small that a few clients fill them."""
    monkeypatch.setattr(batch, "ENTRIES", 4)
    monkeypatch.setattr(batch, "LEAST_QUEUED", 2)
    monkeypatch.setattr(live, "JOIN_BYTES", 600)
    monkeypatch.setattr(keyed_live, "JOIN_BYTES", 600)
    monkeypatch.setattr(groups, "LEAST_CROWD", 2)
    monkeypatch.setattr(catch_up, "CATCH_UP_BYTES", 500)
    monkeypatch.setattr(turns, "WRITES_PER_TURN", turns.WRITES_PER_TURN)
    monkeypatch.setattr(turns, "REST_SHARE", 0.0)
    # A fault must fail the test, not end the process.
    monkeypatch.setattr(runtime, "_fail", _raise)
    monkeypatch.setattr(hub, "_log", Mock())


def _raise() -> None:
    raise


@pytest.fixture
def row() -> Row:
    return Board.create().row(0)


def play(seed: int, row: Row) -> Counter[str]:
    """What happened, and how often."""
    world = World(seed, row)
    try:
        for _ in range(STEPS):
            world.step()
        world.finish()
        world.check()
    except Exception:
        print(f"seed {seed}")
        raise
    return world.happened


@pytest.mark.usefixtures("small")
def test_every_client_gets_whole_messages_in_order_whatever_happens(row: Row) -> None:
    happened: Counter[str] = Counter()
    for seed in range(RUNS):
        happened += play(seed, row)
    assert set(STEPS_WEIGHTS) <= set(happened)
    assert happened["delivery"] > 50 * RUNS
    assert happened["short"] > RUNS
    assert happened["position"] > RUNS


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(3))
def test_nothing_follows_half_of_a_message_whose_rest_was_dropped(seed: int, row: Row) -> None:
    """The client closes its side; two batches are on their way to it, and it reads on."""
    world = World(seed, row)
    client = Client(world, Form.PLAIN, "half", STREAMS)
    for _ in range(4):
        Client(world, Form.PLAIN, "other", STREAMS)
    for _ in range(2):
        world.finish()
        for stream in STREAMS:
            world.append(stream, "x" * 100)
    client.socket.eager = 1.0
    client.socket.taken += bytes(client.socket.room - 50)
    before = len(client.socket.taken)
    client.transport.close()
    world.loop.run(1)
    assert len(client.socket.taken) == before + 50
