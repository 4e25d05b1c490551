from __future__ import annotations

from dataclasses import replace

import pytest

from energyws.control.policy.readiness import (
    DISPUTED,
    DRAINING,
    NO_BROKER,
    NO_CONSUMER,
    NO_KEYS,
    NO_ROOM,
    NO_WORKER,
    NOT_READ_BACK,
    OLD_KEYS,
    UNLISTED,
    ChildHealth,
    unready,
)
from energyws.process.board import Keyless, State
from energyws.process.stalls import WHOLE, Stall

CONSUMER = ChildHealth(is_worker=False, state=State.READY, broker_up=True)
READING = ChildHealth(is_worker=False, state=State.STARTING, broker_up=True)
AWAY = ChildHealth(is_worker=False, state=State.READY, broker_up=False)
CONDEMNED_CONSUMER = ChildHealth(is_worker=False, state=State.READY, broker_up=True, condemned=True)
WORKER = ChildHealth(is_worker=True, state=State.READY, broker_up=False)
STARTING = ChildHealth(is_worker=True, state=State.STARTING, broker_up=False)
LEAVING = ChildHealth(is_worker=True, state=State.DRAINING, broker_up=False)
KEYLESS = ChildHealth(is_worker=True, state=State.READY, broker_up=False, keyless=Keyless.NEVER)
WAITING = ChildHealth(is_worker=True, state=State.STARTING, broker_up=False, keyless=Keyless.NEVER)
STALE = ChildHealth(is_worker=True, state=State.READY, broker_up=False, keyless=Keyless.OLD)
CONDEMNED = ChildHealth(is_worker=True, state=State.READY, broker_up=False, condemned=True)

# At the limit of open files: briefly, for long, and without a client that might leave.
CROWDED = replace(WORKER, connections=50, full_seconds=9.0)
FULL = replace(WORKER, connections=50, full_seconds=11.0)
SHUT = replace(WORKER, full_seconds=0.001)
# Amid a reload.
DISPUTING = replace(WORKER, disputes=True)


@pytest.mark.parametrize(
    ("children", "reasons"),
    [
        pytest.param([CONSUMER, WORKER], [], id="running"),
        pytest.param([], [NO_CONSUMER, NO_WORKER], id="no children"),
        pytest.param([AWAY, WORKER], [NO_BROKER], id="broker away"),
        pytest.param([READING, WORKER], [NOT_READ_BACK], id="reading back"),
        pytest.param([WORKER], [NO_CONSUMER], id="consumer dead"),
        pytest.param([CONDEMNED_CONSUMER, WORKER], [NO_CONSUMER], id="consumer hung"),
        pytest.param([CONSUMER, STARTING], [NO_WORKER], id="worker starting"),
        pytest.param([CONSUMER, LEAVING], [NO_WORKER], id="worker leaving"),
        pytest.param([CONSUMER, CONDEMNED], [NO_WORKER], id="worker hung"),
        pytest.param([CONSUMER, CONDEMNED, WORKER], [], id="one of two workers hung"),
        pytest.param([CONSUMER, WAITING], [NO_KEYS], id="worker without keys at its start"),
        pytest.param([CONSUMER, KEYLESS], [NO_KEYS], id="worker without keys after a reload"),
        pytest.param([CONSUMER, CONDEMNED, KEYLESS], [NO_KEYS], id="one hung, one without keys"),
        pytest.param([CONSUMER, STALE], [OLD_KEYS], id="worker with old keys"),
        pytest.param([CONSUMER, STALE, WAITING], [NO_KEYS], id="its successor without keys"),
        pytest.param([CONSUMER, WAITING, WORKER], [], id="one of two without keys"),
        pytest.param([CONSUMER, CROWDED], [], id="at its limit"),
        pytest.param([CONSUMER, FULL], [NO_ROOM], id="at its limit for long"),
        pytest.param([CONSUMER, SHUT], [NO_ROOM], id="no client can connect"),
        pytest.param([CONSUMER, FULL, CROWDED], [], id="one of two at its limit for long"),
        pytest.param([CONSUMER, FULL, STARTING], [NO_ROOM], id="the other one starting"),
        pytest.param([CONSUMER, DISPUTING], [DISPUTED], id="keys from elsewhere"),
        pytest.param([CONSUMER, DISPUTING, STARTING], [DISPUTED], id="its successor starting"),
        pytest.param([CONSUMER, DISPUTING, WORKER], [], id="one of two, keys from elsewhere"),
        pytest.param([CONSUMER, READING, WORKER], [], id="consumer being replaced"),
        pytest.param([CONDEMNED_CONSUMER, CONSUMER, WORKER], [], id="its successor is there"),
    ],
)
def test_reasons_not_to_be_ready(children: list[ChildHealth], reasons: list[str]) -> None:
    assert unready(False, children) == reasons
    assert unready(True, children) == [DRAINING, *reasons]


def stalled(state: State, *stalls: tuple[str, int, Stall], unlisted: int = 0) -> ChildHealth:
    return ChildHealth(
        is_worker=False, state=state, broker_up=True, stalls=stalls, unlisted_stalls=unlisted
    )


def test_partitions_that_are_not_read_are_named_with_the_reason() -> None:
    consumer = stalled(
        State.READY,
        *(("b", partition, Stall.NO_LEADER) for partition in range(10)),
        ("b", 3, Stall.FAILS),
        ("a", WHOLE, Stall.NOT_ALLOWED),
        unlisted=2,
    )
    assert unready(False, [consumer, WORKER]) == [
        "stream a: the service may not read the topic",
        "stream b, partitions 0, 1, 2, 3, 4, 5, 6, 7 and 2 more: no broker leads it",
        "stream b, partition 3: reading it fails",
        UNLISTED,
    ]


def test_stream_that_is_not_read_back_yet_is_named_with_the_reason() -> None:
    consumer = stalled(State.STARTING, ("a", WHOLE, Stall.NO_TOPIC))
    assert unready(False, [consumer, WORKER]) == [
        NOT_READ_BACK,
        "stream a: the topic does not exist",
    ]


def test_of_two_consumers_the_one_that_serves_counts() -> None:
    successor = stalled(State.STARTING, ("a", 0, Stall.NO_LEADER))
    assert unready(False, [CONSUMER, successor, WORKER]) == []
    condemned = ChildHealth(False, State.READY, True, True, (("a", 0, Stall.NO_LEADER),))
    assert unready(False, [condemned, READING, WORKER]) == [NOT_READ_BACK]
