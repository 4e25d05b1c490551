"""What Kafka clients of ours tell librdkafka, and where its own log goes."""

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

# The facilities of lines whose facts reach error_cb, a message or an answer as well.
_REPORTED: Final = ("FAIL ", "ERROR ", "REQTMOUT ", "OFFSET ")

_log = Log("kafka")


def client_settings(kafka: Kafka) -> dict[str, Any]:
    """What every client of ours tells librdkafka; `kafka.options` has the last word."""
    return {
        "bootstrap.servers": kafka.brokers,
        "client.id": "energyws",
        # Back within a second of the broker, without asking it twenty times a second.
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1000,
        "fetch.error.backoff.ms": 100,
        # A peer that vanished without FIN is noticed by this alone.
        "socket.timeout.ms": 10_000,
        "socket.keepalive.enable": True,
        # Read-ahead: the default of 64 MiB is a quarter of today's memory limit.
        "queued.max.messages.kbytes": 16_384,
        # Once that is full, ask again before it is empty: the default of 1,000 ms outlasts it at
        # more than 16 MB a second, and who catches up then spends most of the time waiting.
        "fetch.queue.backoff.ms": 100,
        **kafka.options,
    }


def assigned_settings(kafka: Kafka) -> dict[str, Any]:
    """What every consumer of ours is told besides: where it begins is said by assign() alone."""
    return {
        # Never joined; but the client wants one, and an ACL may name it.
        "group.id": kafka.group_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
    }


def live_settings(kafka: Kafka) -> dict[str, Any]:
    """What the one that reads the live end of every topic is told."""
    return {**client_settings(kafka), **assigned_settings(kafka)}


def open_consumer(settings: dict[str, Any]) -> Consumer:
    """A consumer; raises BootError, without any value, for options that librdkafka refuses."""
    try:
        return Consumer(settings, logger=library_logger())
    except KafkaException as error:
        refused: KafkaError = error.args[0]
        if refused.code() != KafkaError._INVALID_ARG:
            raise
        text = _VALUE.sub("", refused.str().strip())
        raise BootError(f"kafka.options: librdkafka says: {text}") from None


def open_admin(kafka: Kafka) -> AdminClient:
    """For metadata and commits; it creates no topic by asking for one."""
    settings = {**client_settings(kafka), "allow.auto.create.topics": False}
    settings["logger"] = library_logger()
    return AdminClient(settings)


def library_logger() -> logging.Logger:
    """Where librdkafka's own log goes: one line per ten seconds, the rest counted.

    What it says of connections and offsets is at DEBUG: it reports these to our callbacks too.
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
        # Kinds of their own: what is not written must not hold back what is.
        level("librdkafka reports", kind="reported" if reported else "", says=says)
