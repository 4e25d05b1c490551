"""Shared compression, compared with none and with a compressor per client.

    python -m bench.deflate --clients 500 --rounds 3 --seconds 4 [--tls]

Two services, one with clients that do not offer permessage-deflate and one with clients that do,
and two `websockets` servers that broadcast the same frames, without and with compression (a context
per client, as in most servers). They take turns. Also, without a network, the cost and size of one
message: compressed once for all clients, and once per client with its own context.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil

from bench.deflate.readings import SIZES, builds
from bench.kit.line_process import LineProcess
from bench.kit.load import Load
from bench.kit.measuring import measured, medians
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer
from energyws.protocol.deflate import deflate
from energyws.protocol.frame import DataFrames
from energyws.testing.certificates import write_pair

# The defaults of `websockets` for servers: 4 KiB windows.
WINDOW_BITS: Final = 12
MEMORY_LEVEL: Final = 5
SOLO_SECONDS: Final = 1.0


class Ours:
    """The service with one worker, and its clients."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        build: Callable[[int, int], bytes],
        clients: int,
        tls: dict[str, str] | None,
        offer: bool,
    ) -> None:
        server = {} if tls is None else {"tls": tls}
        service = stack.enter_context(MeasuredService(1, server={"compression": True, **server}))
        self._load = stack.enter_context(
            Load(service.port, clients, service.token, offer=offer, tls=tls is not None, count=1)
        )
        self._processes = service.processes()
        self._writer = Writer(service.brokers, build)
        self._offer = offer
        self._clients = clients

    def run(self, rate: float, seconds: float) -> dict[str, float]:
        """Microseconds per delivery and per record, bytes per delivery."""
        counts = self._load.counts()
        with measured(self._processes) as used:
            written = self._writer.write(rate, seconds)
            after = self._load.all_have(self._writer.sent)
        assert bool(after["compressed"]) == self._offer, after["compressed"]
        deliveries = written * self._clients
        return {
            "us_per_delivery": used["worker-0"] / deliveries * 1e6,
            "consumer_us_per_record": used["consumer"] / written * 1e6,
            "bytes_per_delivery": (after["bytes"] - counts["bytes"]) / deliveries,
        }


class Theirs:
    """`websockets`' broadcast in a separate process (bench.deflate.each), and its clients."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        size: str,
        clients: int,
        tls: dict[str, str] | None,
        offer: bool,
    ) -> None:
        command = [sys.executable, "-m", "bench.deflate.each", f"--size={size}"]
        command += [] if tls is None else [f"--cert={tls['cert']}", f"--key={tls['key']}"]
        self._process = stack.enter_context(LineProcess(command))
        self._processes = {"server": psutil.Process(self._process.pid)}
        port, secure = self._process.answer(), tls is not None
        self._load = stack.enter_context(
            Load(port, clients, "none", path="/", offer=offer, tls=secure, count=2)
        )
        self._clients = clients
        self._sent = 0

    def run(self, rate: float, seconds: float) -> dict[str, float]:
        """Microseconds and bytes per delivery."""
        counts = self._load.counts()
        with measured(self._processes) as used:
            sent = int(self._process.ask(f"{rate} {seconds}"))
            self._sent += sent
            after = self._load.all_have(self._sent)
        deliveries = sent * self._clients
        return {
            "us_per_delivery": used["server"] / deliveries * 1e6,
            "bytes_per_delivery": (after["bytes"] - counts["bytes"]) / deliveries,
        }


def payloads(build: Callable[[int, int], bytes]) -> Iterator[bytes]:
    frames = DataFrames("energy")
    now = time.time_ns() // 1_000_000
    for number in range(1_000):
        record = build(number % 3, number // 3)
        whole = frames.build(now + number, record, f"7f3a90c2-{number}.{number}.{number}")
        yield whole[4:]


def solo(build: Callable[[int, int], bytes], contexts: int) -> dict[str, float]:
    """The cost of compression alone: once for all clients, and with a context per client."""
    messages = list(payloads(build))

    def timed(compress: Callable[[bytes, int], int], clients: int) -> tuple[float, float]:
        # A message goes to every client before the next one does.
        count = size = 0
        began = time.process_time()
        while (used := time.process_time() - began) < SOLO_SECONDS:
            size += compress(messages[count // clients % len(messages)], count % clients)
            count += 1
        return used / count * 1e6, size / count

    shared_us, shared_bytes = timed(lambda message, _: len(deflate(message)), 1)
    before = psutil.Process().memory_info().rss
    compressors = [
        zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL)
        for _ in range(contexts)
    ]

    def each(message: bytes, client: int) -> int:
        compressor = compressors[client]
        return len(compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)) - 4

    each_us, each_bytes = timed(each, contexts)
    held = psutil.Process().memory_info().rss - before
    return {
        "message_bytes": statistics.mean(map(len, messages)),
        "shared_us": shared_us,
        "shared_bytes": shared_bytes,
        "each_us": each_us,
        "each_bytes": each_bytes,
        "each_kib_per_client": held / contexts / 1024,
    }


def compare(size: str, tls: dict[str, str] | None, options: argparse.Namespace) -> dict[str, Any]:
    """All servers in turn; the median of each figure."""
    results: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        sides: dict[str, Ours | Theirs] = {
            "plain": Ours(stack, builds(size), options.clients, tls, offer=False),
            "shared": Ours(stack, builds(size), options.clients, tls, offer=True),
            "websockets plain": Theirs(stack, size, options.clients, tls, offer=False),
            "websockets each": Theirs(stack, size, options.clients, tls, offer=True),
        }
        for rate in options.rate or [20.0, 200.0]:
            rounds = [
                {name: side.run(rate, options.seconds) for name, side in sides.items()}
                for _ in range(options.rounds)
            ]
            for name, figures in medians(rounds, 3).items():
                results[f"{rate:g}/s, {name}"] = figures
            ratios = [
                each["shared"]["us_per_delivery"] / each["plain"]["us_per_delivery"]
                for each in rounds
            ]
            results[f"{rate:g}/s, CPU of shared / plain"] = [round(r, 3) for r in sorted(ratios)]
    return results


def main() -> int:
    parser = arguments(__doc__, clients=500, rounds=3, seconds=4.0)
    parser.add_argument("--rate", type=float, action="append", help="default: 20 and 200")
    parser.add_argument("--size", choices=SIZES, action="append", help="default: all")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="energyws-bench-") as directory:
        tls = write_pair(Path(directory)) if options.tls else None
        for size in options.size or SIZES:
            alone = {k: round(v, 2) for k, v in solo(builds(size), options.clients).items()}
            results[size] = {"without a network": alone, **compare(size, tls, options)}
            for name, values in results[size].items():
                print(f"{size:12} {name:28} {values}", flush=True)
    save(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
