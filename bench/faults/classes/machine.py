"""Faults of the machine: its clock, descriptors, memory, processors, and the log's destination."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from bench.faults.fault import fault
from bench.faults.strangers import connect, subscribed
from bench.faults.world import World

_HOUR: Final = 3600
_LIBRARIES: Final = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64")
_SPIN: Final = "while True: pass"


def _libfaketime() -> Path | None:
    for directory in _LIBRARIES:
        for name in ("libfaketimeMT.so.1", "libfaketime.so.1"):
            if (path := Path(directory) / "faketime" / name).exists():
                return path
    return None


def _set_clock(world: World, seconds: int) -> None:
    # Renamed into place, so that no process reads a partial file.
    fresh = world.directory / "clock.new"
    fresh.write_text(f"{seconds:+d}\n")
    fresh.rename(world.directory / "clock")


@fault(
    number=19,
    name="clock-jump",
    title="the wall clock of the whole service jumps an hour ahead or back, then returns",
    expected="timers are not affected: no process is killed, no client reconnects, nothing stops",
    environment={
        "LD_PRELOAD": str(_libfaketime()),
        "FAKETIME": "+0",
        "FAKETIME_TIMESTAMP_FILE": "{directory}/clock",
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    },
    needs=lambda: None if _libfaketime() else "libfaketime is not installed",
    stays_connected=True,
)
def clock_jump(world: World, rng: random.Random) -> None:
    children = world.service.children()
    try:
        _set_clock(world, rng.choice((-_HOUR, _HOUR)))
        world.clients_live()
        world.pause(rng, 0.5)
    finally:
        _set_clock(world, 0)
    world.clients_live()
    world.expect(world.service.children() == children, "a process was replaced")


@fault(
    number=20,
    name="no-descriptors",
    plain_only=True,
    title="a worker can open only three more descriptors, and many clients connect",
    expected="its clients notice nothing; it waits without spinning, and accepts again once it can",
)
def no_descriptors(world: World, rng: random.Random) -> None:
    worker = world.service.child(rng.choice(world.workers))
    limits = worker.rlimit(psutil.RLIMIT_NOFILE)
    with contextlib.ExitStack() as crowd:
        worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds() + 3, limits[1]))
        try:
            for _ in range(60):
                crowd.enter_context(connect(world.service.port))
            used = sum(worker.cpu_times()[:2])
            time.sleep(0.5)
            used = sum(worker.cpu_times()[:2]) - used
            world.note("CPU share of the worker", used / 0.5)
            world.expect(used < 0.35, f"it used {used:.2f} s of CPU time in half a second")
        finally:
            worker.rlimit(psutil.RLIMIT_NOFILE, limits)
    for _ in range(10):
        subscribed(world.service.port).close()


@fault(
    number=21,
    name="no-memory",
    title="a worker or the consumer cannot allocate more memory (RLIMIT_AS) under load",
    expected="it continues, or ends and is replaced; clients that lose their connection resume",
    tracebacks=True,
    record_bytes=20_000,
    clients=40,
)
def no_memory(world: World, rng: random.Random) -> None:
    child = world.service.child(rng.choice((*world.workers, "consumer")))
    limits = child.rlimit(psutil.RLIMIT_AS)
    size = child.memory_info().vms
    with contextlib.suppress(psutil.NoSuchProcess):
        child.rlimit(psutil.RLIMIT_AS, (size, limits[1]))
    try:
        world.producer.burst(60)
        world.crowd.bounce(range(0, 40, 2))
        world.pause(rng, 0.8)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.rlimit(psutil.RLIMIT_AS, limits)
    world.note("child ended", not child.is_running())
    world.service.ready()


@contextlib.contextmanager
def _busy(processes: int) -> Iterator[None]:
    spinning = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@fault(
    number=22,
    name="no-processor",
    title="four busy processes per core for two seconds",
    expected="everything is slower; no process is killed, no client loses its connection",
)
def no_processor(world: World, rng: random.Random) -> None:
    children = world.service.children()
    with _busy(4 * (os.cpu_count() or 1)):
        time.sleep(2.0)
    world.clients_live()
    world.expect(world.service.children() == children, "a process was replaced")


@fault(
    number=23,
    name="log-blocked",
    plain_only=True,
    title="the log goes to a full pipe that is not read, and a worker is killed",
    expected="the service continues; log lines are dropped and counted",
    bound_seconds=15,
)
def log_blocked(world: World, rng: random.Random) -> None:
    world.service.hold_log(True)
    try:
        for _ in range(100):
            subscribed(world.service.port).close()
        world.kill(rng.choice(world.workers))
        world.clients_live()
    finally:
        world.service.hold_log(False)


@fault(
    number=23,
    name="log-full",
    title="the log's disk is full (/dev/full), and a worker is killed",
    expected="the service starts and continues, without a log",
)
def log_full(world: World, rng: random.Random) -> None:
    world.service.stop()
    with open("/dev/full", "wb") as full:
        world.service.start(full.fileno()).ready()
    world.clients_live()
    world.kill(rng.choice(world.workers))
