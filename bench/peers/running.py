"""A peer with its clients and its feeder, and the cost of one run."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import psutil

from bench.kit.load import Load
from bench.kit.measuring import measured, percentiles
from bench.kit.record import PARTITIONS
from bench.kit.writer import Build, paced
from bench.peers.catalogue import Peer
from energyws.protocol.frame import DataFrames
from energyws.testing.certificates import write_pair

# After this many seconds without a frame, missing frames count as lost.
_SILENCE: Final = 3.0
# After this many seconds since the last write, missing frames count as lost.
_PATIENCE: Final = 60.0


class Feeder:
    """Sends lines to a peer; each is the payload of a data frame as energyws clients receive it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._frames = DataFrames("energy")
        self._offsets = [0] * PARTITIONS
        self.sent = 0

    def write(self, build: Build, rate: float, seconds: float) -> None:
        """Write evenly at `rate` records a second."""
        for some in paced(rate, seconds):
            for _ in range(some):
                self._socket.sendall(self._line(build))

    def close(self) -> None:
        self._socket.close()

    def _line(self, build: Build) -> bytes:
        number, partition = divmod(self.sent, PARTITIONS)
        self.sent += 1
        self._offsets[partition] = number + 1
        position = "01234567-" + ".".join(map(str, self._offsets))
        frame = self._frames.build(time.time_ns() // 1_000_000, build(partition, number), position)
        # Without the frame's header, whose size depends on the payload's.
        return frame[{126: 4, 127: 10}.get(frame[1], 2) :] + b"\n"


class Running:
    """A running peer, with its clients connected.

    rss_connected: kilobytes per connection, when all were connected.
    """

    def __init__(self, peer: Peer, command: Sequence[str], clients: int, tls: bool) -> None:
        self._clients = clients
        self._stack = contextlib.ExitStack()
        words = list(command)
        if tls:
            directory = self._stack.enter_context(tempfile.TemporaryDirectory())
            words += write_pair(Path(directory)).values()
        self._server = subprocess.Popen(words, stdout=subprocess.PIPE)
        self._stack.callback(self._end)
        try:
            assert self._server.stdout is not None
            line = self._server.stdout.readline()
            if not line:
                raise RuntimeError(f"{peer.name} has ended: see above")
            ports = orjson.loads(line)
            self._process = psutil.Process(self._server.pid)
            before = self.rss()
            self._load = Load(ports["port"], clients, "bench", tls=tls, **peer.load)
            self._stack.callback(self._load.close)
            self._load.ready()
            self.rss_connected = (self.rss() - before) / clients
            self._rss_before = before
            self._feeder = Feeder(ports["feed"])
            self._stack.callback(self._feeder.close)
        except BaseException:
            self._stack.close()
            raise
        self.broken = False

    def close(self) -> None:
        self._stack.close()

    def rss(self) -> float:
        """RSS of its process, in kilobytes (1,000 bytes)."""
        return float(self._process.memory_info().rss) / 1000

    def rss_used(self) -> float:
        return (self.rss() - self._rss_before) / self._clients

    def run(self, build: Build, rate: float, seconds: float) -> dict[str, float]:
        """Write for a while and wait for all deliveries; sets `broken` if any or a client was lost.

        us: CPU microseconds per delivery; generator_us: those of the clients. seconds: until the
        last client had the last message. lost: the number of missing deliveries.
        """
        before = self._load.counts(restart=True)
        sent_before = self._feeder.sent
        began = time.monotonic()
        processes = {"peer": self._process, "generator": psutil.Process(self._load.pid)}
        with measured(processes) as used:
            self._feeder.write(build, rate, seconds)
            expected = (self._feeder.sent - sent_before) * self._clients
            counts, ended = self._settle(before["frames"] + expected)
        delivered = counts["frames"] - before["frames"]
        lost = expected - delivered
        delays = percentiles(counts["delays"], 50, 99, 100)
        self.broken = self.broken or bool(lost or counts["closed"] or counts["gaps"])
        return {
            "us": used["peer"] / delivered * 1e6 if delivered else float("nan"),
            "generator_us": used["generator"] / max(1, delivered) * 1e6,
            "seconds": ended - began,
            "lost": lost,
            "closed": counts["closed"],
            **{f"delay_{name}_ms": value for name, value in delays.items()},
        }

    def _settle(self, frames: int) -> tuple[dict[str, Any], float]:
        """Wait until `frames` have arrived, or no more do; the counts, and the time of the last."""
        written = changed = time.monotonic()
        last = -1
        while True:
            counts = self._load.counts()
            now = time.monotonic()
            if counts["frames"] != last:
                last, changed = counts["frames"], now
            if last >= frames or now - changed > _SILENCE or now - written > _PATIENCE:
                return counts, changed
            time.sleep(0.05)

    def _end(self) -> None:
        self._server.terminate()
        try:
            self._server.wait(10)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        assert self._server.stdout is not None
        self._server.stdout.close()
