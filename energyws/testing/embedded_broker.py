"""An embedded Kafka broker: librdkafka's mock cluster, hosted by the client library itself.

The `rd_kafka_mock_*` functions (librdkafka's rdkafka_mock.h) are exported by the library that
the confluent-kafka wheel bundles, but are outside its ABI guarantees: hence one expected version.
The log lives in memory, at most 5 MiB or 100,000 batches per partition, and ends with the
process. An empty fetch is answered only after the client's `fetch.wait.max.ms`, not when data
arrives: give consumers 1 to 10 ms there, or they see up to 500 ms of delay that no real broker has.

As a process of its own, `python -m energyws.testing.embedded_broker --topic NAME:PARTITIONS` prints
`{"bootstrap": "127.0.0.1:PORT"}` when it is ready, then takes one command a line on standard
input, such as `{"op": "trim", "topic": "energy", "partition": 0, "low_offset": 5}`, and answers
each with `{"ok": true}` or `{"ok": false, "error": "..."}`. It ends at the end of its input, on
SIGTERM or SIGINT, and with its parent.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Final, Self

import confluent_kafka
import orjson
from confluent_kafka import KafkaError, cimpl

from energyws.errors import EnergywsError, ExitCode
from energyws.testing.parent import end_with_parent

EXPECTED_VERSION: Final = "2.16.1"

_PRODUCER: Final = 0
_BROKER: Final = 1
_ERROR_BYTES: Final = 512
# Errors only: a handle without bootstrap.servers warns about that.
_LOG_LEVEL: Final = b"3"
_TOPIC_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")

_Function = Callable[..., Any]


class BrokerError(EnergywsError):
    """The embedded broker cannot start, or refuses a command."""


class _Library:
    """The C functions used here, with the prototypes of rdkafka.h and rdkafka_mock.h."""

    def __init__(self) -> None:
        try:
            # Symbols are also looked up in the extension's dependencies, and so in the very
            # librdkafka that it uses, wherever the wheel or the system has put it.
            self._library = ctypes.CDLL(cimpl.__file__)
        except OSError as error:
            raise BrokerError(f"cannot load {cimpl.__file__}: {error}") from error
        code, number, text = ctypes.c_int, ctypes.c_int32, ctypes.c_char_p
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        self.conf_new = self._function("conf_new", pointer)
        self.conf_set = self._function("conf_set", code, pointer, text, text, text, size)
        self.conf_destroy = self._function("conf_destroy", None, pointer)
        self.new = self._function("new", pointer, code, pointer, text, size)
        self.destroy = self._function("destroy", None, pointer)
        self.cluster_new = self._function("mock_cluster_new", pointer, pointer, code)
        self.cluster_destroy = self._function("mock_cluster_destroy", None, pointer)
        self.bootstraps = self._function("mock_cluster_bootstraps", text, pointer)
        self.set_controller_id = self._function("mock_set_controller_id", None, pointer, number)
        self.coordinator_set = self._function(
            "mock_coordinator_set", code, pointer, text, text, number
        )
        self.topic_create = self._function("mock_topic_create", code, pointer, text, code, code)
        self.topic_delete = self._function("mock_topic_delete", code, pointer, text)
        self.delete_records = self._function(
            "mock_partition_delete_records", code, pointer, text, number, ctypes.c_int64
        )
        self.set_down = self._function("mock_broker_set_down", code, pointer, number)
        self.set_up = self._function("mock_broker_set_up", code, pointer, number)
        self.set_rtt = self._function("mock_broker_set_rtt", code, pointer, number, code)
        self.push_request_errors = self._function(
            "mock_push_request_errors_array",
            None,
            pointer,
            ctypes.c_int16,
            size,
            ctypes.POINTER(code),
        )
        self.set_host_port = self._function(
            "mock_broker_set_host_port", None, pointer, number, text, code
        )

    def _function(self, name: str, result: Any, *arguments: Any) -> _Function:
        symbol = f"rd_kafka_{name}"
        try:
            function = self._library[symbol]
        except AttributeError:
            raise BrokerError(
                f"the librdkafka of confluent-kafka {confluent_kafka.__version__} has no function "
                f"{symbol}, which the embedded broker needs: install confluent-kafka "
                f"{EXPECTED_VERSION}, or use a real broker"
            ) from None
        function.restype = result
        function.argtypes = arguments
        return function


class EmbeddedBroker:
    """Brokers 1 to N in this process, each on a free port of 127.0.0.1; 1 is the controller.

    Partition P of a topic is led by broker P mod N + 1.

    A client creates a topic (always with 4 partitions) when it asks for its metadata, unless it
    sets `allow.auto.create.topics` to false. Of AdminClient, `describe_topics` (with topic ids),
    `list_topics`, `list_offsets` and group offsets work; `create_topics`, `delete_topics`,
    `create_partitions` and `delete_records` do not. They are methods here, except for adding
    partitions, which the mock cluster cannot do. `offsets_for_times` always answers the end.

    Every method raises BrokerError when the broker refuses, or is closed.
    """

    def __init__(self, brokers: int = 1) -> None:
        self._library = _Library()
        self._handle = self._new_handle()
        self._cluster: int | None = self._library.cluster_new(self._handle, brokers)
        if not self._cluster:
            self._library.destroy(self._handle)
            raise BrokerError("librdkafka could not create its mock cluster")
        # While the controller is no broker that exists, clients look for it until they time out.
        self.set_controller(_BROKER)
        self._bootstrap = str(self._library.bootstraps(self._cluster).decode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:PORT` of each; neither `advertise` nor `set_down` changes it."""
        return self._bootstrap

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic; one that was deleted before comes back with a new topic id."""
        if not _TOPIC_NAME.fullmatch(name):
            raise BrokerError(f"create topic {name!r}: a name has 1 to 249 of a-z A-Z 0-9 . _ -")
        if partitions < 1:
            raise BrokerError(f"create topic {name!r}: {partitions} partitions, expected 1 or more")
        code = self._library.topic_create(self._live, name.encode(), partitions, 1)
        _check(code, f"create topic {name!r}")

    def delete_topic(self, name: str) -> None:
        """Delete a topic with all its records."""
        _check(self._library.topic_delete(self._live, name.encode()), f"delete topic {name!r}")

    def trim(self, topic: str, partition: int, low_offset: int) -> None:
        """Drop the records below `low_offset`, as retention does; it may not be beyond the end.

        An offset below the present low watermark would lower it, which no real broker does.
        """
        if low_offset < 0:
            raise BrokerError(f"trim {topic!r} partition {partition}: {low_offset} is no offset")
        code = self._library.delete_records(self._live, topic.encode(), partition, low_offset)
        _check(code, f"trim {topic!r} partition {partition} to offset {low_offset}")

    def set_down(self, down: bool, broker: int = _BROKER) -> None:
        """Close every connection and refuse new ones; False: accept them again."""
        switch = self._library.set_down if down else self._library.set_up
        _check(switch(self._live, broker), "take the broker down" if down else "bring it up")

    def set_coordinator(self, group: str, broker: int) -> None:
        """Choose the broker that keeps the offsets of a group."""
        code = self._library.coordinator_set(self._live, b"group", group.encode(), broker)
        _check(code, f"make broker {broker} the coordinator of group {group!r}")

    def set_controller(self, broker: int) -> None:
        """Choose the controller; a broker that does not exist: there is no controller."""
        self._library.set_controller_id(self._live, broker)

    def set_rtt(self, ms: int) -> None:
        """Delay every answer by `ms` milliseconds.

        A fetch returns one batch of a partition at most, so a delay also limits the rate.
        """
        _check(self._library.set_rtt(self._live, _BROKER, ms), f"set the delay to {ms} ms")

    def push_request_errors(self, api_key: int, codes: Sequence[int]) -> None:
        """Answer the next `len(codes)` requests of a kind with these error codes, in order.

        `api_key` is the protocol's number of the request (0 Produce, 1 Fetch, 3 Metadata);
        codes are the protocol's, and KafkaError._TRANSPORT (-195) drops the connection.
        """
        if not all(isinstance(code, int) for code in codes):
            raise BrokerError(f"push request errors: {list(codes)} are not error numbers")
        errors = (ctypes.c_int * len(codes))(*codes)
        self._library.push_request_errors(self._live, api_key, len(codes), errors)

    def advertise(self, host: str, port: int) -> None:
        """Name this address in metadata, such as a proxy's: clients connect to it."""
        self._library.set_host_port(self._live, _BROKER, host.encode(), port)

    def close(self) -> None:
        """Stop the broker and drop its log; a second call does nothing."""
        if self._cluster:
            cluster, self._cluster = self._cluster, None
            self._library.cluster_destroy(cluster)
            self._library.destroy(self._handle)

    def _new_handle(self) -> int:
        message = ctypes.create_string_buffer(_ERROR_BYTES)
        conf = self._library.conf_new()
        self._library.conf_set(conf, b"log_level", _LOG_LEVEL, message, _ERROR_BYTES)
        handle = self._library.new(_PRODUCER, conf, message, _ERROR_BYTES)
        if not handle:
            # Only a handle that was created owns its configuration.
            self._library.conf_destroy(conf)
            raise BrokerError(f"librdkafka could not start: {message.value.decode()}")
        return int(handle)

    @property
    def _live(self) -> int:
        if not self._cluster:
            raise BrokerError("the embedded broker is closed")
        return self._cluster


def _check(code: int, what: str) -> None:
    if code:
        error = KafkaError(code)
        raise BrokerError(f"{what}: {error.str()} ({error.name()})")


# The commands on standard input: the methods of EmbeddedBroker, with their arguments' JSON types.
_COMMANDS: Final[dict[str, dict[str, type]]] = {
    "create_topic": {"name": str, "partitions": int},
    "delete_topic": {"name": str},
    "trim": {"topic": str, "partition": int, "low_offset": int},
    "set_down": {"down": bool},
    "set_rtt": {"ms": int},
    "push_request_errors": {"api_key": int, "codes": list},
    "advertise": {"host": str, "port": int},
}


def obey(broker: EmbeddedBroker, line: bytes) -> dict[str, object]:
    """Carry out one command line and return its answer; a bad one is answered, never raised."""
    try:
        command = orjson.loads(line)
        if not isinstance(command, dict) or command.get("op") not in _COMMANDS:
            raise BrokerError(f'expected {{"op": ...}} with one of {", ".join(_COMMANDS)}')
        op = command.pop("op")
        expected = _COMMANDS[op]
        if {name: type(value) for name, value in command.items()} != expected:
            wanted = ", ".join(f"{name}: {kind.__name__}" for name, kind in expected.items())
            raise BrokerError(f"{op} takes {wanted}")
        getattr(broker, op)(**command)
    except (BrokerError, ValueError) as error:
        return {"ok": False, "error": str(error)}
    return {"ok": True}


def main(arguments: Sequence[str] | None = None) -> int:
    """Host one broker until the end of standard input or a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m energyws.testing.embedded_broker",
        description="An embedded Kafka broker, in memory.",
    )
    parser.add_argument(
        "--topic",
        dest="topics",
        action="append",
        default=[],
        type=_topic,
        metavar="NAME:PARTITIONS",
        help="create this topic; may be repeated",
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    end_with_parent()
    try:
        with EmbeddedBroker() as broker:
            for name, partitions in options.topics:
                broker.create_topic(name, partitions)
            _say({"bootstrap": broker.bootstrap})
            for line in sys.stdin.buffer:
                _say(obey(broker, line))
    except BrokerError as error:
        sys.stderr.write(f"energyws.testing.embedded_broker: {error}\n")
        return ExitCode.FAILURE
    except BrokenPipeError:
        # The parent has ended: the same as the end of input.
        pass
    return ExitCode.OK


def _topic(text: str) -> tuple[str, int]:
    name, colon, partitions = text.rpartition(":")
    if not (name and colon and partitions.isdecimal() and int(partitions) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:PARTITIONS, such as energy:3")
    return name, int(partitions)


def _leave(number: int, frame: FrameType | None) -> None:
    # An exception ends the blocking read.
    raise SystemExit(ExitCode.OK)


def _say(message: dict[str, object]) -> None:
    os.write(sys.stdout.fileno(), orjson.dumps(message) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
