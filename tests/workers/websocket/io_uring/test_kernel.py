"""The real kernel: what it does with sockets, and a queue that cannot be had."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import resource
import socket
import struct
from array import array
from collections.abc import Iterator

import pytest

from workers.websocket.io_uring import kernel
from workers.websocket.io_uring.kernel import Ring, Unsupported, open_send_queue
from workers.websocket.io_uring.send_queue import ENTRIES, SendQueue

# What a kernel, or a container, says that has no io_uring for us.
WITHOUT = (errno.EPERM, errno.EACCES, errno.ENOSYS)


def _ring() -> Ring | None:
    try:
        return Ring()
    except OSError as error:
        if error.errno in WITHOUT:
            return None
        raise


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = _ring()
    if made is None:
        pytest.skip("io_uring is forbidden here, or the kernel has none")
    yield made
    made.close()


@pytest.fixture
def queue(ring: Ring) -> SendQueue:
    return SendQueue(ring.queues, ring)


def connected() -> tuple[socket.socket, socket.socket]:
    """A TCP connection: a server's socket that does not block, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
    server.setblocking(False)
    client.settimeout(10)
    return server, client


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with contextlib.ExitStack() as stack:
        made = [connected() for _ in range(ENTRIES)]
        for pair in made:
            for each in pair:
                stack.enter_context(each)
        yield made


def fill(sender: socket.socket) -> int:
    """Send until the socket is full; returns how many bytes it took."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sender.send(b"\0" * 65_536)
    return sent


def receive(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        assert more
        data += more
    return data


def test_queue_that_was_tried_can_be_had_where_a_ring_can(ring: Ring) -> None:
    queue = open_send_queue()
    assert queue.failure is None


def test_all_sockets_get_their_bytes_again_and_again(
    queue: SendQueue, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    for nth, size in enumerate([1, 7, ENTRIES, ENTRIES, 63, 2, 40]):
        data = bytes([nth]) * (100 + nth)
        descriptors = array("i", [server.fileno() for server, _ in pairs[:size]])
        assert list(queue.send(descriptors, data)) == []
        assert all(receive(client, len(data)) == data for _, client in pairs[:size])


def test_full_closed_and_missing_sockets_are_named_and_block_nobody(
    queue: SendQueue, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    full, gone, closed = pairs[3], pairs[5], pairs[9]
    held = fill(full[0])
    # A client that resets its connection: SIGPIPE would end this process.
    gone[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone[1].close()
    descriptors = array("i", [server.fileno() for server, _ in pairs[:20]])
    closed[0].close()
    for data in (b"a" * 1_000, b"b" * 1_000):
        assert list(queue.send(descriptors, data)) == [(3, 0), (5, 0), (9, 0)]
        for at in {*range(20)} - {3, 5, 9}:
            assert receive(pairs[at][1], len(data)) == data
    assert queue.failure is None
    assert set(receive(full[1], held)) == {0}
    # It has room again, and what it did not take was not kept to be sent later.
    assert list(queue.send(descriptors[3:4], b"later")) == []
    assert receive(full[1], 5) == b"later"


def test_socket_with_too_little_room_takes_the_beginning(
    queue: SendQueue, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    server, client = pairs[0]
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    data = os.urandom(16 * 1024 * 1024)
    ((at, taken),) = queue.send(array("i", [server.fileno()]), data)
    assert at == 0
    assert 0 < taken < len(data)
    assert receive(client, taken) == data[:taken]
    assert list(queue.send(array("i", [server.fileno()]), b"next")) == []
    assert receive(client, 4) == b"next"


def test_ring_that_was_closed_is_a_failure(
    ring: Ring, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    closed = Ring()
    queue = SendQueue(closed.queues, closed)
    closed.close()
    descriptors = array("i", [server.fileno() for server, _ in pairs[:2]])
    assert list(queue.send(descriptors, b"data")) == [(0, 0), (1, 0)]
    assert queue.failure is not None
    assert queue.failure.errno == errno.EBADF


def test_descriptor_closes_on_exec_and_with_the_ring(ring: Ring) -> None:
    another = Ring()
    assert fcntl.fcntl(another._descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    another.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(another._descriptor)


def test_kernel_that_does_otherwise_in_the_trial_is_not_used(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What other tests left must not go meanwhile.
    gc.collect()
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(SendQueue, "send", lambda self, descriptors, data: [(1, 0)])
    with pytest.raises(Unsupported, match="does not send as"):
        open_send_queue()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_failure_in_the_trial_is_raised_as_it_is(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Ring, count: int) -> int:
        raise OSError(errno.EACCES, "not permitted")

    monkeypatch.setattr(Ring, "submit", refused)
    with pytest.raises(OSError, match="not permitted") as raised:
        open_send_queue()
    assert raised.value.errno == errno.EACCES


def test_other_sizes_than_asked_for_are_not_used(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What other tests have left behind must not be collected in between.
    gc.collect()
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(kernel, "_FEAT_SINGLE_MMAP", 1 << 31)
    with pytest.raises(Unsupported, match=r"older than Linux 5\.4"):
        open_send_queue()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_there_is_none_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(Unsupported, match="Linux") as raised:
        open_send_queue()
    assert raised.value.errno == errno.ENOSYS


def test_want_of_descriptors_is_an_error_of_its_own(ring: Ring) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) // 2, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as raised:
            open_send_queue()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised.value.errno == errno.EMFILE
