"""Questions to the log that nobody waits for."""

from __future__ import annotations

from typing import Final

from bench.attacks.attack import ONE_SUBJECT, attack
from bench.attacks.held import Held
from bench.attacks.target import Target
from bench.attacks.wire import UNSUBSCRIBE, subscribe
from bench.kit.handshake import bearer, upgrade_request

_RECORDS: Final = 6_000
# Two messages each time: within the 50 per second that a client may send.
_PAUSE_SECONDS: Final = 2 / 45.0
_ANSWER: Final = "a client has one question at a time, which it takes back; others have their turn"


@attack(
    name="made-up-positions",
    title="250 clients with one token unsubscribe and subscribe 22 times a second, each time from "
    "another made-up position",
    who=ONE_SUBJECT,
    answer=_ANSWER,
    records=_RECORDS,
)
def made_up_positions(target: Target) -> None:
    _ask(target, 250, 3)


@attack(
    name="wide-positions",
    title="100 such clients whose positions have 1,003 partitions, for a topic of 3",
    who=ONE_SUBJECT,
    answer="refused: more partitions than the topic has",
    records=_RECORDS,
)
def wide_positions(target: Target) -> None:
    _ask(target, 100, 1_003)


def _ask(target: Target, clients: int, partitions: int) -> None:
    def position() -> str:
        offsets = ".".join(str(target.random.randrange(500)) for _ in range(partitions))
        return f"{target.plan.epoch}-{offsets}"

    def word() -> bytes:
        return UNSUBSCRIBE + subscribe(resume={"energy": position()})

    request = upgrade_request("/ws/energy", bearer(target.token)).encode()
    Held(target, clients, lambda _: request, rate=clients, word=word, pause=_PAUSE_SECONDS).run()
