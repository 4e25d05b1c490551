"""A whole worker and remote programs that read as they like: whole messages, in order, once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import selectors
import socket
import struct
import threading
import time
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from energyws.auth.verifier import mint
from energyws.process.board import Field
from energyws.process.io_uring import IoUring
from energyws.protocol.forms import Form
from energyws.settings import Stream
from energyws.testing import until
from tests.clients import masked
from tests.workers.websocket.fanout.simulated import Reader
from tests.workers.websocket.test_process import SECRET, SETTINGS, running
from workers.websocket.io_uring.kernel import open_send_queue
from workers.websocket.io_uring.send_queue import SendQueue

STREAMS = ("energy", "prices")
RECORDS = 120
# Of a record, roughly. No socket takes a large one at once, however fast its client reads. In much
# smaller sockets TCP would drop packets, and wait before it sends them again.
SMALL, LARGE = 1_000, 100_000
SOCKET_BYTES = 16 * 1024
# A client whose transport holds no more stays in the crowd.
LIMIT = 2 * LARGE
DEADLINE_SECONDS = 40.0
KEY = base64.b64encode(os.urandom(16)).decode()


class Remote:
    """A remote program. reads: as it likes: `all`, most of the time a `byte`, or with `stops`."""

    def __init__(self, port: int, form: Form, reads: str, number: int) -> None:
        self.form = form
        self.reads = reads
        self.dead = False
        self.reader = Reader(form, "")
        self.connection = socket.socket()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        self.connection.connect(("127.0.0.1", port))
        self.connection.sendall(self._request(number))
        self.connection.setblocking(False)
        self._stopped_until = 0.0

    def _request(self, number: int) -> bytes:
        token = mint(SECRET, "tester", 3600, time.time())
        if self.form is Form.SSE:
            lines = ["GET /sse/energy HTTP/1.1"]
        else:
            # The order of streams is the order of its crowds.
            query = ",".join(STREAMS[: 1 + number % 2])
            lines = [
                f"GET /ws/energy?subscribe={query} HTTP/1.1",
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                f"Sec-WebSocket-Key: {KEY}",
            ]
        if self.form is Form.DEFLATE:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate")
        lines += ["Host: x", f"Authorization: Bearer {token}", "", ""]
        return "\r\n".join(lines).encode()

    def readable(self, now: float) -> None:
        if now < self._stopped_until:
            return
        if self.reads == "stops" and random.random() < 0.1:
            self._stopped_until = now + random.random() / 10
        sizes = [*[1] * 200, 8_192] if self.reads == "byte" else [65_536]
        received = bytearray()
        with contextlib.suppress(BlockingIOError):
            for size in sizes:
                data = self.connection.recv(size)
                assert data, "the worker has closed a connection"
                received += data
        self.reader.feed(bytes(received))

    def says(self) -> None:
        """Something that the worker answers."""
        if self.form is not Form.SSE:
            asks = random.choice([masked(9, b"there?"), masked(1, b'{"type":"ping"}')])
            # It may not be read from while it does not read.
            with contextlib.suppress(BlockingIOError):
                self.connection.send(asks)

    def dies(self) -> None:
        self.dead = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class Crowd(threading.Thread):
    """Remote programs, some of which die and are replaced until the last record is out."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.remotes: list[Remote] = []
        self.last = threading.Event()
        self.over = threading.Event()
        self.failure: BaseException | None = None
        self._port = port
        self._selector = selectors.DefaultSelector()
        for form in (Form.PLAIN, Form.PLAIN, Form.DEFLATE, Form.SSE):
            for reads in ("byte", *["all"] * 3, *["stops"] * 4):
                self._connect(form, reads)

    def run(self) -> None:
        try:
            with self._selector:
                self._run()
        except BaseException as error:
            self.failure = error
        finally:
            for remote in self.remotes:
                remote.connection.close()

    def _run(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self._once() or not self._complete():
            assert time.monotonic() < deadline, [
                (each.form, each.reads, each.reader.next) for each in self.remotes if not each.dead
            ]

    def _once(self) -> bool:
        """Whether a worker had sent something."""
        now = time.monotonic()
        readable = self._selector.select(0.01)
        for key, _ in readable:
            key.data.readable(now)
        alive = [each for each in self.remotes if not each.dead]
        if random.random() < 0.2:
            random.choice(alive).says()
        if not self.last.is_set() and random.random() < 0.05:
            victim = random.choice(alive)
            self._selector.unregister(victim.connection)
            victim.dies()
            self._connect(victim.form, victim.reads)
        # The worker is in this process, too.
        time.sleep(0.001)
        return bool(readable)

    def _connect(self, form: Form, reads: str) -> None:
        remote = Remote(self._port, form, reads, len(self.remotes))
        self.remotes.append(remote)
        self._selector.register(remote.connection, selectors.EVENT_READ, remote)

    def _complete(self) -> bool:
        """Whether everyone who is alive has the last record of what it subscribed to."""
        if self.over.is_set():
            return True
        if not self.last.is_set():
            return False
        readers = [each.reader for each in self.remotes if not each.dead]
        return all(
            each.next and not each.rest and set(each.next.values()) == {RECORDS} for each in readers
        )


@pytest.mark.parametrize("io_uring", ["auto", "off"])
def test_clients_that_read_as_they_like_get_everything_exactly_once(
    tmp_path: Path, io_uring: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if io_uring == "auto":
        try:
            open_send_queue()
        except OSError as error:
            pytest.skip(f"no io_uring here: {error}")
    counts = {"queued": 0, "short": 0}
    send = SendQueue.send

    def counted(self: SendQueue, descriptors: array[int], data: bytes) -> Sequence[tuple[int, int]]:
        short = send(self, descriptors, data)
        counts["queued"] += len(descriptors)
        counts["short"] += sum(taken > 0 for _, taken in short)
        return short

    monkeypatch.setattr(SendQueue, "send", counted)
    server = replace(
        SETTINGS.server, io_uring=io_uring, write_buffer_bytes=LIMIT, messages_per_second=1e6
    )
    streams = {name: Stream(topic=name) for name in STREAMS}
    settings = replace(SETTINGS, server=server, streams=streams)

    async def test() -> None:
        async with running(tmp_path, settings) as worker:
            # Connections have this from the socket that accepts them.
            worker.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
            for name in STREAMS:
                worker.find_topic(name)
            await until(lambda: worker.ready)
            state = worker.runtime.row[Field.IO_URING]
            assert state == (IoUring.IN_USE if io_uring == "auto" else IoUring.OFF)
            crowd = await asyncio.to_thread(Crowd, worker.port)
            crowd.start()
            try:
                for number in range(RECORDS):
                    for nth, name in enumerate(STREAMS):
                        large = number % 10 == nth
                        worker.publish(number, LARGE if large else random.randint(0, SMALL), name)
                    await asyncio.sleep(random.choice([0, 0.001, 0.01]))
                crowd.last.set()
                while crowd.is_alive():
                    await asyncio.sleep(0.02)
            finally:
                crowd.over.set()
                await asyncio.to_thread(crowd.join)
            if crowd.failure is not None:
                raise crowd.failure

    uvloop.run(asyncio.wait_for(test(), DEADLINE_SECONDS + 10))
    if io_uring == "auto":
        assert counts["short"] > 0
    else:
        assert counts["queued"] == 0
