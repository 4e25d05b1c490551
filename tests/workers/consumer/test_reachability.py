"""One line per change, with its reason."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from workers.consumer.reachability import NO_REASON, PAIRING_SECONDS, RECENT_SECONDS, Reachability

DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
REFUSED = KafkaError(KafkaError._TRANSPORT, "Connection refused")
PASSWORD = KafkaError(KafkaError._AUTHENTICATION, "wrong password")
OTHER = KafkaError(KafkaError._BAD_MSG, "bad message")

LOST = "broker is not reachable: trying again"
BACK = "broker is reachable"
REPORT = "Kafka client reports"


class Told(logging.Handler):
    """A Reachability, its clock, its changes, and its lines: event and reason."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.changes: list[bool] = []
        self.lines: list[tuple[str, object]] = []
        self.reachability = Reachability("b:9092", self.changes.append, lambda: self.now)

    def emit(self, record: logging.LogRecord) -> None:
        fields = record.energyws_fields  # type: ignore[attr-defined]
        self.lines.append((record.getMessage(), fields.get("reason")))

    def after(self, seconds: float) -> list[tuple[str, object]]:
        """All lines, after this much more time."""
        self.now += seconds
        self.reachability.log_due()
        return self.lines


@pytest.fixture
def told() -> Iterator[Told]:
    handler = Told()
    logger = logging.getLogger("energyws.kafka")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("order", [(REFUSED, DOWN), (DOWN, REFUSED)], ids=["before", "after"])
def test_error_of_a_connection_is_the_reason(told: Told, order: tuple[KafkaError, ...]) -> None:
    told.reachability.answered()
    for error in (*order, REFUSED, DOWN, REFUSED):
        told.reachability.error(error)
    told.reachability.lost("timed out")
    assert told.changes == [True, False]
    assert told.after(60) == [(BACK, None), (LOST, "Connection refused")]
    told.reachability.answered()
    assert told.after(60) == [(BACK, None), (LOST, "Connection refused"), (BACK, None)]


def test_loss_without_any_reason_is_logged_after_a_while(told: Told) -> None:
    told.reachability.error(DOWN)
    assert told.after(PAIRING_SECONDS / 2) == []
    assert told.after(PAIRING_SECONDS / 2) == [(LOST, NO_REASON)]


def test_loss_that_is_over_before_it_was_logged_is_two_lines(told: Told) -> None:
    told.reachability.error(DOWN)
    told.reachability.answered()
    assert told.after(60) == [(LOST, NO_REASON), (BACK, None)]
    assert told.changes == [False, True]


def test_old_error_of_a_connection_is_no_reason(told: Told) -> None:
    told.reachability.answered()
    told.reachability.error(REFUSED)
    told.after(RECENT_SECONDS)
    told.reachability.lost("timed out")
    assert told.lines == [(BACK, None), (REPORT, "Connection refused"), (LOST, "timed out")]


def test_loss_of_one_of_several_brokers_is_a_line_of_its_own_after_a_while(told: Told) -> None:
    told.reachability.answered()
    told.reachability.error(REFUSED)
    assert told.after(PAIRING_SECONDS / 2) == [(BACK, None)]
    assert told.after(PAIRING_SECONDS / 2) == [(BACK, None), (REPORT, "Connection refused")]
    assert told.after(60) == [(BACK, None), (REPORT, "Connection refused")]
    assert told.changes == [True]


def test_another_cause_while_no_broker_answers_is_logged_once(told: Told) -> None:
    for error in (REFUSED, DOWN, PASSWORD, PASSWORD, PASSWORD):
        told.reachability.error(error)
    assert told.after(60) == [(LOST, "Connection refused"), (REPORT, "wrong password")]


def test_other_errors_are_logged_at_once(told: Told) -> None:
    assert not told.reachability.error(OTHER)
    assert told.lines == [(REPORT, "bad message")]
