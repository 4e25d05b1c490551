"""What the workers and the kernel hold for their clients."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from typing import Final

import psutil

from bench.attacks.verdict import Reading

_INTERVAL_SECONDS: Final = 0.2
# ss(8): received and not read, sent and not acknowledged, reserved, and queued.
_BUFFERS: Final = re.compile(r"skmem:\(r(\d+),rb\d+,t(\d+),tb\d+,f(\d+),w(\d+)")


def buffered(listing: str) -> int:
    """Bytes in the kernel's buffers, from the output of `ss -tm`."""
    return sum(
        int(received) + max(int(sent), int(queued)) + int(reserved)
        for received, sent, reserved, queued in _BUFFERS.findall(listing)
    )


def kernel_bytes(port: int) -> int | None:
    """What the kernel holds for the connections to a port, on the service's side."""
    program = shutil.which("ss")
    if program is None:
        return None
    command = [program, "-tmnH", "state", "connected", "sport", "=", f":{port}"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if listing.returncode else buffered(listing.stdout)


def read(workers: Iterable[psutil.Process], port: int) -> Reading:
    """What all workers hold together; one that has ended holds nothing."""
    memory = descriptors = 0
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            memory += worker.memory_info().rss
            descriptors += worker.num_fds()
    return Reading(memory=memory, kernel=kernel_bytes(port), descriptors=descriptors)


@contextlib.contextmanager
def peaks(workers: Iterable[psutil.Process], port: int) -> Iterator[Reading]:
    """Yields a Reading that grows to the highest of each figure during the block."""
    known = list(workers)
    peak = read(known, port)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_INTERVAL_SECONDS):
            now = read(known, port)
            peak.memory = max(peak.memory, now.memory)
            peak.descriptors = max(peak.descriptors, now.descriptors)
            if peak.kernel is not None:
                peak.kernel = max(peak.kernel, now.kernel or 0)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
