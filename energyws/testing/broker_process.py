"""The embedded broker in a child process."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, Self

import orjson

from energyws.testing.embedded_broker import BrokerError

PARTITIONS: Final = 3
# The embedded broker answers a waiting fetch only when its time is up.
FAST_FETCH: Final = {"fetch.wait.max.ms": 5}
# Seconds: a start takes 0.1 on an idle machine, a command less than a millisecond.
_START_TIMEOUT: Final = 20.0
_CALL_TIMEOUT: Final = 10.0
_CLOSE_TIMEOUT: Final = 5.0


class BrokerProcess:
    """An embedded broker with these topics (name → partitions), ready when made.

    Its process is in a session of its own, so that a Ctrl-C at the terminal reaches only its
    parent, which may need it a little longer. Every method raises BrokerError when the broker
    refuses, has ended or does not answer; so does the constructor, when it does not start.
    stderr: the descriptor that its messages go to; None: this process's own standard error.
    """

    consumer_options: Final[dict[str, Any]] = FAST_FETCH

    def __init__(
        self, topics: Mapping[str, int] | None = None, *, stderr: int | None = None
    ) -> None:
        command = [sys.executable, "-m", "energyws.testing.embedded_broker"]
        for name, partitions in (topics or {}).items():
            command += ["--topic", f"{name}:{partitions}"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            start_new_session=True,
        )
        try:
            self._bootstrap = str(self._answer(_START_TIMEOUT)["bootstrap"])
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:PORT`."""
        return self._bootstrap

    @property
    def pid(self) -> int:
        """The process id of the broker."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the broker's process runs."""
        return self._process.poll() is None

    def create_topic(self, name: str, partitions: int = PARTITIONS) -> None:
        """Make a topic; one that was deleted before comes back with another topic id."""
        self.call("create_topic", name=name, partitions=partitions)

    def delete_topic(self, name: str) -> None:
        """Delete a topic with all its records."""
        self.call("delete_topic", name=name)

    def trim(self, name: str, partition: int, low_offset: int) -> None:
        """Remove the records of a partition below an offset, as retention does."""
        self.call("trim", topic=name, partition=partition, low_offset=low_offset)

    def call(self, op: str, **arguments: Any) -> None:
        """Have the broker do one thing: the name and arguments of a method of EmbeddedBroker."""
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            raise BrokerError("the embedded broker is closed")
        try:
            self._process.stdin.write(orjson.dumps({"op": op, **arguments}) + b"\n")
        except BrokenPipeError:
            raise self._ended() from None
        answer = self._answer(_CALL_TIMEOUT)
        if not answer["ok"]:
            raise BrokerError(str(answer["error"]))

    def close(self) -> None:
        """End the broker and wait for it, with SIGKILL if need be; a second call does nothing."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def kill(self) -> None:
        """End the broker with SIGKILL, as a crash would."""
        self._process.kill()
        self._reap()

    def _reap(self) -> None:
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()

    def _answer(self, timeout: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout
        # Not select(2), which fails for descriptors from 1,024 on.
        poller = select.poll()
        poller.register(self._process.stdout, select.POLLIN)
        line = b""
        while not line.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            if not poller.poll(left * 1000):
                raise BrokerError(f"the embedded broker did not answer within {timeout:g} s")
            piece = self._process.stdout.read(65536)
            if not piece:
                raise self._ended()
            line += piece
        answer: dict[str, Any] = orjson.loads(line)
        return answer

    def _ended(self) -> BrokerError:
        try:
            status = self._process.wait(_CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            return BrokerError("the embedded broker closed its standard output")
        return BrokerError(
            f"the embedded broker has ended with status {status}: see its standard error"
        )
