"""A child is killed immediately, or a second after SIGABRT if it hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from energyws.control.children.child import STACKS_SECONDS, RunningChild
from energyws.control.children.mailbox import Mailbox
from energyws.control.children.spawn import ChildSpec
from energyws.control.children.stacks import memory
from energyws.process.board import Board
from energyws.process.control_messages import Shed, unpack


class Play:
    """A child, and its end of the socket for control messages."""

    def __init__(self) -> None:
        process = subprocess.Popen(["/bin/sleep", "600"])
        ours, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.child = RunningChild(
            ChildSpec("worker-0", 0, 0, None),
            process,
            Mailbox("worker-0", ours),
            memory(),
            Board.create().row(0),
            psutil.Process(process.pid),
            os.pidfd_open(process.pid),
            1,
            [],
        )


@pytest.fixture
def play() -> Iterator[Play]:
    made = Play()
    yield made
    made.child.process.kill()
    made.child.process.wait()
    made.child.close()
    made.socket.close()


@pytest.fixture
def child(play: Play) -> RunningChild:
    return play.child


def test_overdue_child_is_killed_immediately(child: RunningChild) -> None:
    child.kill(100.0, hung=False)
    assert child.process.wait(10) == -signal.SIGKILL
    assert child.end == "overdue"


def test_hung_child_gets_sigabrt(child: RunningChild) -> None:
    child.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.process.pid, os.WSTOPPED | os.WNOWAIT)
    child.kill(100.0, hung=True)
    child.process.send_signal(signal.SIGCONT)
    assert child.process.wait(10) == -signal.SIGABRT
    assert child.end == "hung"


def test_hung_child_that_takes_no_sigabrt_is_killed_later(child: RunningChild) -> None:
    child.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.process.pid, os.WSTOPPED | os.WNOWAIT)
    child.kill(100.0, hung=True)
    child.look_after(100.0 + STACKS_SECONDS - 0.01)
    assert child.process.poll() is None
    child.look_after(100.0 + STACKS_SECONDS)
    assert child.process.wait(10) == -signal.SIGKILL


def test_waiting_messages_are_sent_when_there_is_room(play: Play) -> None:
    mailbox, count = play.child.mailbox, 0
    while not mailbox._waiting:
        mailbox.put(Shed(count))
        count += 1
    for number in range(count - 1):
        assert unpack(play.socket.recv(1 << 16)) == Shed(number)
    play.child.look_after(0.0)
    assert unpack(play.socket.recv(1 << 16)) == Shed(count - 1)
