"""One log line per change of reachability, with its reason."""

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


class Observed(logging.Handler):
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
        """All lines, `seconds` later."""
        self.now += seconds
        self.reachability.log_due()
        return self.lines


@pytest.fixture
def observed() -> Iterator[Observed]:
    handler = Observed()
    logger = logging.getLogger("energyws.kafka")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("order", [(REFUSED, DOWN), (DOWN, REFUSED)], ids=["before", "after"])
def test_error_of_a_connection_is_the_reason(
    observed: Observed, order: tuple[KafkaError, ...]
) -> None:
    observed.reachability.answered()
    for error in (*order, REFUSED, DOWN, REFUSED):
        observed.reachability.error(error)
    observed.reachability.lost("timed out")
    assert observed.changes == [True, False]
    assert observed.after(60) == [(BACK, None), (LOST, "Connection refused")]
    observed.reachability.answered()
    assert observed.after(60) == [(BACK, None), (LOST, "Connection refused"), (BACK, None)]


def test_loss_without_any_reason_is_logged_after_a_while(observed: Observed) -> None:
    observed.reachability.error(DOWN)
    assert observed.after(PAIRING_SECONDS / 2) == []
    assert observed.after(PAIRING_SECONDS / 2) == [(LOST, NO_REASON)]


def test_loss_that_ends_before_it_is_logged_has_two_lines(observed: Observed) -> None:
    observed.reachability.error(DOWN)
    observed.reachability.answered()
    assert observed.after(60) == [(LOST, NO_REASON), (BACK, None)]
    assert observed.changes == [False, True]


def test_old_error_of_a_connection_is_not_the_reason(observed: Observed) -> None:
    observed.reachability.answered()
    observed.reachability.error(REFUSED)
    observed.after(RECENT_SECONDS)
    observed.reachability.lost("timed out")
    assert observed.lines == [(BACK, None), (REPORT, "Connection refused"), (LOST, "timed out")]


def test_loss_of_one_broker_of_several_has_its_own_line_after_a_while(observed: Observed) -> None:
    observed.reachability.answered()
    observed.reachability.error(REFUSED)
    assert observed.after(PAIRING_SECONDS / 2) == [(BACK, None)]
    assert observed.after(PAIRING_SECONDS / 2) == [(BACK, None), (REPORT, "Connection refused")]
    assert observed.after(60) == [(BACK, None), (REPORT, "Connection refused")]
    assert observed.changes == [True]


def test_another_error_while_no_broker_answers_is_logged_once(observed: Observed) -> None:
    for error in (REFUSED, DOWN, PASSWORD, PASSWORD, PASSWORD):
        observed.reachability.error(error)
    assert observed.after(60) == [(LOST, "Connection refused"), (REPORT, "wrong password")]


def test_other_errors_are_logged_immediately(observed: Observed) -> None:
    assert not observed.reachability.error(OTHER)
    assert observed.lines == [(REPORT, "bad message")]
