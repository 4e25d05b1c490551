"""The settings of Kafka clients, options that librdkafka refuses, and its log lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from energyws.errors import BootError
from energyws.settings import Kafka
from workers.consumer.librdkafka import (
    client_settings,
    library_logger,
    live_settings,
    open_consumer,
)


@pytest.fixture
def lines() -> Iterator[list[tuple[int, str]]]:
    """The level and the text of each librdkafka log line that is written."""
    found: list[tuple[int, str]] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fields = record.energyws_fields  # type: ignore[attr-defined]
            found.append((record.levelno, fields["says"]))

    handler, logger = Recorder(), logging.getLogger("energyws.kafka")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_operator_options_override_all_settings_but_those_the_consumer_needs() -> None:
    kafka = Kafka(
        brokers="b",
        options={"reconnect.backoff.ms": 7, "enable.auto.commit": True, "group.id": "other"},
        group_id="g",
    )
    assert client_settings(kafka)["reconnect.backoff.ms"] == 7
    settings = live_settings(kafka)
    assert (settings["enable.auto.commit"], settings["group.id"]) == (False, "g")
    assert settings["auto.offset.reset"] == "error"


def test_error_names_the_refused_option_without_its_value() -> None:
    kafka = Kafka(brokers="b", options={"security.protocol": "a-secret"})
    with pytest.raises(BootError, match=r"kafka\.options: .*security\.protocol") as refused:
        open_consumer(live_settings(kafka))
    assert "a-secret" not in str(refused.value)


def test_consumer_is_opened_without_a_broker() -> None:
    open_consumer(live_settings(Kafka(brokers="127.0.0.1:1"))).close()


def test_lines_also_reported_by_callbacks_have_level_debug(
    lines: list[tuple[int, str]],
) -> None:
    logger = library_logger()
    logger.warning("FAIL [thrd:x]: Connect to ipv4#127.0.0.1:1 failed")
    logger.warning("MAXPOLL [thrd:x]: Application maximum poll interval exceeded")
    assert lines == [
        (logging.DEBUG, "FAIL [thrd:x]: Connect to ipv4#127.0.0.1:1 failed"),
        (logging.WARNING, "MAXPOLL [thrd:x]: Application maximum poll interval exceeded"),
    ]


def test_log_lines_are_limited_to_one_in_ten_seconds(lines: list[tuple[int, str]]) -> None:
    logger = library_logger()
    for number in range(50):
        logger.warning("MAXPOLL [thrd:x]: %d", number)
    assert lines == [(logging.WARNING, "MAXPOLL [thrd:x]: 0")]
