"""The librdkafka settings of all our Kafka clients, and where its own log goes."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from energyws.errors import BootError
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.settings import Kafka

_VALUE: Final = re.compile(r'(?<=Invalid value) ".*"(?= for)')

# Lines of these facilities repeat what error_cb, a message or an answer reports as well.
_REPORTED: Final = ("FAIL ", "ERROR ", "REQTMOUT ", "OFFSET ")

_log = Log("kafka")


def client_settings(kafka: Kafka) -> dict[str, Any]:
    """The settings that all clients share; `kafka.options` has the last word."""
    return {
        "bootstrap.servers": kafka.brokers,
        "client.id": "energyws",
        # Back within a second of the broker, without asking it twenty times a second.
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1000,
        "fetch.error.backoff.ms": 100,
        # Nothing else notices a peer that vanished without FIN.
        "socket.timeout.ms": 10_000,
        "socket.keepalive.enable": True,
        # Read-ahead: the default of 64 MiB is a quarter of today's memory limit.
        "queued.max.messages.kbytes": 16_384,
        # Once that is full, fetch again before it is empty: at more than 16 MB a second it is empty
        # long before the default of 1,000 ms, and a consumer that catches up mostly waits.
        "fetch.queue.backoff.ms": 100,
        **kafka.options,
    }


def assigned_settings(kafka: Kafka) -> dict[str, Any]:
    """What consumers have besides: assign() alone decides where they begin."""
    return {
        # Never joined, but librdkafka requires one, and an ACL may name it.
        "group.id": kafka.group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
    }


def live_settings(kafka: Kafka) -> dict[str, Any]:
    """The settings of the consumer that reads the live end of every topic."""
    return {**client_settings(kafka), **assigned_settings(kafka)}


def open_consumer(settings: dict[str, Any]) -> Consumer:
    """A consumer; raises BootError for options that librdkafka refuses, without their values."""
    try:
        return Consumer(settings, logger=library_logger())
    except KafkaException as error:
        refused: KafkaError = error.args[0]
        if refused.code() != KafkaError._INVALID_ARG:
            raise
        text = _VALUE.sub("", refused.str().strip())
        raise BootError(f"kafka.options: librdkafka says: {text}") from None


def open_admin(kafka: Kafka) -> AdminClient:
    """A client for metadata and offsets; asking for a topic does not create it."""
    settings = {**client_settings(kafka), "allow.auto.create.topics": False}
    settings["logger"] = library_logger()
    return AdminClient(settings)


def library_logger() -> logging.Logger:
    """A logger for librdkafka's own lines: one per ten seconds, the others are counted.

    Lines about connections and offsets are at DEBUG: librdkafka reports these to callbacks too.
    """
    logger = logging.Logger("librdkafka", logging.WARNING)
    logger.addHandler(_Relay())
    return logger


class _Relay(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self._limited = RateLimitedLog(_log, 10.0)

    def emit(self, record: logging.LogRecord) -> None:
        says = record.getMessage()
        reported = says.startswith(_REPORTED)
        level = self._limited.debug if reported else self._limited.warning
        # Kinds of their own: lines at DEBUG must not hold back warnings.
        level("librdkafka reports", kind="reported" if reported else "", says=says)
