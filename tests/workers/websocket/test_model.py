"""Any interleaving of clients, network, event loop, bus and log: what each client receives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from energyws.errors import RESTART, SLOW, Close
from tests.clients import masked
from tests.workers.websocket.edge import EPOCH, PARTITIONS, Client, Edge

# Frames, and the codes that answer them; None: it is no fault.
HOSTILE: list[tuple[bytes, int | None]] = [
    (masked(3, b""), 1002),
    (masked(1, b"\xff"), 1007),
    (masked(0, b"x"), 1002),
    (masked(1, b"", reserved=2), 1002),
    (masked(8, b"\x00\x00"), 1002),
    (masked(8, b"\x03\xe9\xff"), 1007),
    (masked(9, bytes(126)), 1002),
    (masked(2, bytes(1_001)), 1009),
    (b"\x81\x01x", 1002),
    (masked(8, b"\x03\xe9") + masked(8, b"\x03\xe8") + masked(3, b""), 1001),
    (masked(8, b""), 1000),
    (masked(1, b"[[["), None),
    (masked(1, b'{"type":"subscribe","streams":["energy"],"resume":{"energy":7}}'), None),
    (masked(9, b"x") * 3, None),
    (masked(1, b'{"ty', final=False) + masked(10, b"") + masked(0, b'pe":"ping"}'), None),
]


# A close frame of ours, bytes of the client's, or the end of its connection.
Ending = Close | tuple[bytes, int | None] | None
endings: st.SearchStrategy[Ending] = st.sampled_from([*HOSTILE, RESTART, SLOW, None, None, None])
numbers = st.integers(0, 4)
sizes = st.sampled_from([0, 1, 3, 20, 10_000, 10_000, 10_000])


class Model(RuleBasedStateMachine):
    """Clients are chosen by number, among those that are connected."""

    def __init__(self) -> None:
        super().__init__()
        self.edge = Edge()
        self.clients: list[Client] = []
        # What clients that are gone could resume from.
        self.positions: list[str] = []
        # The codes that await clients that have sent something wrong.
        self.due: dict[Client, int] = {}

    def client(self, number: int) -> Client:
        return self.clients[number % len(self.clients)]

    @initialize(forms=st.lists(st.booleans(), min_size=2, max_size=4))
    def begin(self, forms: list[bool]) -> None:
        for number, deflate in enumerate(forms):
            self.connect(deflate)
            self.subscribe(number, False, 0, 1_000)

    @rule(deflate=st.booleans())
    def connect(self, deflate: bool) -> None:
        if len(self.clients) < 5:
            self.clients.append(Client(self.edge, deflate=deflate))

    @rule(partitions=st.lists(st.integers(0, PARTITIONS - 1), min_size=1, max_size=20))
    def records(self, partitions: list[int]) -> None:
        for partition in partitions:
            self.edge.record(partition)

    @rule(count=st.integers(1, 4))
    def turn(self, count: int) -> None:
        self.edge.turn(count)

    @rule()
    def answer(self) -> None:
        self.edge.log.answer()

    @precondition(lambda self: self.clients)
    @rule(number=numbers, resume=st.booleans(), again=st.integers(0, 9), size=sizes)
    def subscribe(self, number: int, resume: bool, again: int, size: int) -> None:
        client = self.client(number)
        # It asks one thing at a time: a second request would replace the first.
        if client.asked or client in self.due:
            return
        message: dict[str, Any] = {"type": "subscribe", "streams": ["energy"]}
        text = None
        known = [*self.positions, *([client.last] if client.last else []), f"{EPOCH}-0.0"]
        if resume:
            text = known[again % len(known)]
            message["resume"] = {"energy": text}
        client.asked.append(text)
        client.send(message)
        client.deliver(size)

    @precondition(lambda self: self.clients)
    @rule(number=numbers, kind=st.sampled_from(["ping", "ping", "unsubscribe"]), size=sizes)
    def ask(self, number: int, kind: str, size: int) -> None:
        client = self.client(number)
        # An unsubscribe would take back a request without an answer.
        if not client.asked and client not in self.due:
            client.send({"type": kind, "streams": ["energy"]})
            client.deliver(size)

    @precondition(lambda self: self.clients)
    @rule(number=numbers, size=sizes)
    def deliver(self, number: int, size: int) -> None:
        self.client(number).deliver(size)

    @precondition(lambda self: self.clients)
    @rule(number=numbers, reads=st.booleans())
    def read(self, number: int, reads: bool) -> None:
        client = self.client(number)
        if reads:
            client.wire.read()
        else:
            client.wire.reads = False

    @precondition(lambda self: self.clients)
    @rule(number=numbers, how=endings, size=sizes)
    def attack(self, number: int, how: Ending, size: int) -> None:
        client = self.client(number)
        if client in self.due:
            return
        if isinstance(how, Close):
            client.session.close(how)
            self.due[client] = how.code
        elif how is not None:
            data, code = how
            client.sent += data
            if code is not None:
                self.due[client] = code
            client.deliver(size)
        else:
            client.check()
            client.lose()
            self.clients.remove(client)
            if client.last is not None:
                self.positions.append(client.last)

    @invariant()
    def nobody_gets_anything_wrong(self) -> None:
        for client in self.clients:
            client.check()
            assert client.code in (None, self.due.get(client))

    def teardown(self) -> None:
        try:
            for _ in range(3):
                for client in self.clients:
                    client.wire.read()
                    client.deliver(1_000_000)
                self.edge.settle()
            self.nobody_gets_anything_wrong()
            head = list(self.edge.log.head.offsets)
            for client in self.clients:
                if client in self.due:
                    assert client.code is not None
                    continue
                assert client.code is None
                assert client.asked == []
                assert client.offsets in (None, head), "records are missing"
                client.lose()
        finally:
            self.edge.close()


Model.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_model = pytest.mark.timeout(120)(Model.TestCase)
