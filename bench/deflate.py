"""Compression that is shared, against none, and against a compressor for each client.

    python -m bench.deflate --clients 500 --rounds 3 --seconds 4 [--tls]

The service twice, once with clients that do not offer permessage-deflate and once with clients
that do, and `websockets` broadcasting the same frames, without and with its compression (a context
for each client, as most servers do it). They take turns. Then, without a network, what one
message costs and comes to: compressed for all, and with so many contexts in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil

from bench.record import PARTITIONS, padded
from bench.service import Service, Usage, Writer, report
from bench.tally import Tally
from energyws.demo.meter import Meter
from energyws.protocol.deflate import deflate
from energyws.protocol.frame import DataFrames

# So many readings of each meter before they begin again: far more than any window holds.
READINGS: Final = 500
SIZES: Final = ("440", "real")
# What `websockets` gives its servers by default: 4 KiB windows.
WINDOW_BITS: Final = 12
MEMORY_LEVEL: Final = 5
SOLO_SECONDS: Final = 1.0


class Readings:
    """Records of simulated meters, one a second each: their values change as real ones do."""

    def __init__(self) -> None:
        now = time.time_ns()
        meters = [Meter(seed) for seed in range(PARTITIONS)]
        self._records = [
            [meter.record(now + number * 10**9) for number in range(READINGS)] for meter in meters
        ]

    def build(self, partition: int, number: int) -> bytes:
        """The record."""
        return self._records[partition][number % READINGS]


def builds(size: str) -> Callable[[int, int], bytes]:
    """What makes the records of a size; of 440 B most are the same letter, which flatters."""
    return Readings().build if size == "real" else lambda p, n: padded(p, n, 440)


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
        service = stack.enter_context(Service(1, server={"compression": True, **server}))
        path = "/ws/energy?subscribe=energy"
        self._tally = Tally(
            service.port, path, clients, service.token, offer=offer, tls=tls is not None
        )
        stack.callback(self._tally.close)
        self._tally.ready()
        # `subscribed` comes first, to each.
        self._tally.all_have(1)
        self._processes = service.processes()
        self._writer = Writer(service.brokers, build)
        self._clients = clients

    def run(self, rate: float, seconds: float) -> dict[str, float]:
        """Microseconds per delivery and per record, bytes per delivery."""
        processes = {name: self._processes[name] for name in ("worker-0", "consumer")}
        before = {name: Usage.of(process) for name, process in processes.items()}
        counts = self._tally.counts()
        written = self._writer.write(rate, seconds)
        after = self._tally.all_have(1 + self._writer.sent)
        used = {name: Usage.of(process).since(before[name]) for name, process in processes.items()}
        deliveries = written * self._clients
        return {
            "us_per_delivery": used["worker-0"].total / deliveries * 1e6,
            "consumer_us_per_record": used["consumer"].total / written * 1e6,
            "bytes_per_delivery": (after["bytes"] - counts["bytes"]) / deliveries,
        }


class Theirs:
    """`websockets`' broadcast in a process of its own (bench.each), and its clients."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        size: str,
        clients: int,
        tls: dict[str, str] | None,
        offer: bool,
    ) -> None:
        command = [sys.executable, "-m", "bench.each", f"--size={size}"]
        command += [] if tls is None else [f"--cert={tls['cert']}", f"--key={tls['key']}"]
        self._process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        self._usage = psutil.Process(self._process.pid)
        port = int(self._line())
        # A pipe that is closed ends it.
        assert self._process.stdin is not None
        stack.callback(self._process.stdin.close)
        self._tally = Tally(port, "/", clients, offer=offer, tls=tls is not None, context=offer)
        stack.callback(self._tally.close)
        self._tally.ready()
        self._clients = clients
        self._sent = 0

    def run(self, rate: float, seconds: float) -> dict[str, float]:
        """Microseconds and bytes per delivery."""
        before, counts = Usage.of(self._usage), self._tally.counts()
        assert self._process.stdin is not None
        self._process.stdin.write(f"{rate} {seconds}\n")
        self._process.stdin.flush()
        sent = int(self._line())
        self._sent += sent
        after = self._tally.all_have(self._sent)
        deliveries = sent * self._clients
        return {
            "us_per_delivery": Usage.of(self._usage).since(before).total / deliveries * 1e6,
            "bytes_per_delivery": (after["bytes"] - counts["bytes"]) / deliveries,
        }

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "bench.each has ended: see above"
        return line


def payloads(build: Callable[[int, int], bytes]) -> Iterator[bytes]:
    """The messages that clients get."""
    frames = DataFrames("energy")
    now = time.time_ns() // 1_000_000
    for number in range(1_000):
        record = build(number % 3, number // 3)
        whole = frames.build(now + number, record, f"7f3a90c2-{number}.{number}.{number}")
        yield whole[4:]


def solo(build: Callable[[int, int], bytes], contexts: int) -> dict[str, float]:
    """What compressing alone costs: once for all, and with a context for each client."""
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
    """All of them in turn; the median of each figure."""
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
            for name in sides:
                results[f"{rate:g}/s, {name}"] = {
                    key: round(statistics.median(each[name][key] for each in rounds), 3)
                    for key in rounds[0][name]
                }
            ratios = [
                each["shared"]["us_per_delivery"] / each["plain"]["us_per_delivery"]
                for each in rounds
            ]
            results[f"{rate:g}/s, CPU of shared / plain"] = [round(r, 3) for r in sorted(ratios)]
    return results


def certificate(directory: str) -> dict[str, str]:
    """A self-signed pair, as the configuration wants it."""
    cert, key = str(Path(directory, "tls.crt")), str(Path(directory, "tls.key"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"),
            *(
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-subj",
                "/CN=127.0.0.1",
                "-keyout",
                key,
                "-out",
                cert,
            ),
        ],
        check=True,
        capture_output=True,
    )
    return {"cert": cert, "key": key}


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rate", type=float, action="append", help="default: 20 and 200")
    parser.add_argument("--size", choices=SIZES, action="append", help="default: all")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--out", help="write the results here, as JSON")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="energyws-bench-") as directory:
        tls = certificate(directory) if options.tls else None
        for size in options.size or SIZES:
            alone = {k: round(v, 2) for k, v in solo(builds(size), options.clients).items()}
            results[size] = {"without a network": alone, **compare(size, tls, options)}
            for name, values in results[size].items():
                print(f"{size:12} {name:28} {values}", flush=True)
    report(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
