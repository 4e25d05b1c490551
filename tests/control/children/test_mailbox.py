"""Messages to a child that does not read are not lost, doubled or reordered."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest

from energyws.control.children.mailbox import Mailbox
from energyws.process.control_messages import (
    ControlMessage,
    Shed,
    ShutDown,
    ShutdownMode,
    UseSettings,
    unpack,
)
from energyws.settings import Kafka, Settings, Stream

SETTINGS = Settings(kafka=Kafka(brokers="b", topic="t"))


class Child:
    """The other end; it reads when `read` is called."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.socket.setblocking(False)
        self.mailbox = Mailbox("worker-0", ours)

    def read(self) -> list[ControlMessage]:
        """The messages that have arrived."""
        found = []
        while True:
            try:
                data = self.socket.recv(1 << 20)
            except BlockingIOError:
                return found
            found.append(unpack(data))

    def fill(self) -> list[ControlMessage]:
        """Send until there is no room; the messages sent."""
        sent: list[ControlMessage] = []
        while not self.mailbox._waiting:
            sent.append(Shed(len(sent)))
            assert self.mailbox.put(sent[-1])
        return sent


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.mailbox.close()
    made.socket.close()


def test_message_is_sent_immediately(child: Child) -> None:
    assert child.mailbox.put(ShutDown(ShutdownMode.STOP))
    assert child.read() == [ShutDown(ShutdownMode.STOP)]


def test_message_without_room_is_sent_later_and_in_order(child: Child) -> None:
    sent = child.fill()
    wanted = [UseSettings(SETTINGS), ShutDown(ShutdownMode.RETIRE)]
    for message in wanted:
        assert child.mailbox.put(message)
    assert child.read() == sent[:-1]
    assert child.mailbox.flush() == set()
    assert child.read() == [sent[-1], *wanted]
    child.mailbox.flush()
    assert child.read() == []


def test_newer_message_of_a_kind_replaces_one_that_waits(child: Child) -> None:
    sent = child.fill()
    other = Settings(kafka=Kafka(brokers="c", topic="t"))
    for message in (UseSettings(SETTINGS), ShutDown(ShutdownMode.RETIRE), UseSettings(other)):
        child.mailbox.put(message)
    assert child.read() == sent[:-1]
    child.mailbox.flush()
    assert child.read() == [sent[-1], ShutDown(ShutdownMode.RETIRE), UseSettings(other)]


def test_message_larger_than_any_datagram_is_refused(
    child: Child, caplog: pytest.LogCaptureFixture
) -> None:
    streams = {f"stream-{number}": Stream(topic="t" * 200) for number in range(3000)}
    with caplog.at_level(logging.WARNING):
        assert not child.mailbox.put(
            UseSettings(Settings(kafka=Kafka(brokers="b"), streams=streams))
        )
        assert child.mailbox.put(ShutDown(ShutdownMode.STOP))
    assert child.read() == [ShutDown(ShutdownMode.STOP)]
    assert [record.getMessage() for record in caplog.records] == ["control message not delivered"]


def test_message_to_a_child_that_has_ended_is_not_too_large(child: Child) -> None:
    child.socket.close()
    assert child.mailbox.put(UseSettings(SETTINGS))
    assert child.mailbox.flush() == set()
