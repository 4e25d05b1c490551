"""The memory that a connection costs a worker and the kernel, plain and with TLS.

    python -m bench.memory --clients 10000
    LD_LIBRARY_PATH=DIR python -m bench.memory --only tls      with the OpenSSL in that directory

The memory of one worker is read at five moments: before; idle, with all clients subscribed; used,
after each client got some records and sent a frame; burst, after many records together, joined into
large writes; gone, when all clients have left. All but the first are differences to the first, in
bytes per connection.

RSS and PSS are the kernel's own sums (smaps_rollup). One client connects and leaves before the
first reading, which therefore includes everything that the first connection loads. The kernel's
memory is the growth of the whole machine's slabs (sockets, files, epoll) and TCP buffers, halved,
since both ends of each connection are on this machine; nothing else should run meanwhile.
"""

from __future__ import annotations

import ssl
import sys
import time
from pathlib import Path
from typing import Any, Final

import psutil

from bench.kit.load import Load
from bench.kit.record import padded
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer
from energyws.testing import eventually

# Time for the allocator, the heartbeat and the kernel's batched freeing to settle.
SETTLE_SECONDS: Final = 3.0
RECORD_BYTES: Final = 1138
RECORDS: Final = 40
BURST: Final = 300
# The worker's ring is full before the first reading, so it does not count as memory of clients.
RING: Final = 500
# Every client is pinged at this interval, and sends its pong as its frame.
PING_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 120.0
_COLUMNS: Final = ("rss", "pss", "private_dirty", "kernel_slab", "kernel_tcp")


def main() -> int:
    parser = arguments(__doc__, clients=10_000)
    parser.add_argument("--only", choices=("plain", "tls"))
    options = parser.parse_args()
    results: dict[str, Any] = {"clients": options.clients}
    print(f"{'bytes per connection':22}" + "".join(f"{name:>15}" for name in _COLUMNS))
    for kind in ("plain", "tls") if options.only is None else (options.only,):
        results[kind] = _measure(kind, options.clients)
    # Its part of a TLS connection depends on its version.
    openssl = ssl.OPENSSL_VERSION.split()[1]
    save(options.out, results, {"OpenSSL": openssl})
    return 0


def _measure(kind: str, clients: int) -> dict[str, Any]:
    secure = kind == "tls"
    server = {"ping_interval_seconds": PING_SECONDS}
    with MeasuredService(1, tls=secure, server=server, history={"max_frames": RING}) as service:
        worker = service.processes()["worker-0"]
        writer = Writer(service.brokers, lambda p, n: padded(p, n, RECORD_BYTES))
        with service.load(1) as load:
            writer.write(100 * RING, 0.01)
            load.all_have(RING)
        before = _read(worker)
        results: dict[str, Any] = {"before": before}

        def take(moment: str) -> None:
            now = _read(worker)
            results[moment] = row = {name: (now[name] - before[name]) / clients for name in now}
            # Only one of a connection's two sockets belongs to the service.
            for name in ("kernel_slab", "kernel_tcp"):
                row[name] /= 2
            print(
                f"{kind:6} {moment:15}" + "".join(f"{row[name]:15,.0f}" for name in _COLUMNS),
                flush=True,
            )

        # Each client has its own subject, as in production, so no state of a token is shared.
        with Load(service.port, clients, service.tokens(clients), tls=secure) as load:
            take("idle")
            writer.write(20, RECORDS / 20)
            _wait(load, clients, RECORDS)
            take("used")
            writer.write(100 * BURST, 0.01)
            _wait(load, clients, RECORDS + BURST)
            take("burst")
        take("gone")
    return results


def _wait(load: Load, clients: int, frames: int) -> None:
    """Wait until every client has `frames` records, `subscribed`, and at least one ping."""
    assert load.all_have(frames)["least"] >= frames, "not every client got every record"
    eventually(
        lambda: load.counts()["others"] >= 2 * clients,
        "every client was pinged",
        PATIENCE_SECONDS,
        interval=0.2,
    )


def _read(process: psutil.Process) -> dict[str, int]:
    """Memory of the process, and of the kernel for all processes, in bytes."""
    time.sleep(SETTLE_SECONDS)
    mapped = _kilobytes(f"/proc/{process.pid}/smaps_rollup")
    machine = _kilobytes("/proc/meminfo")
    sockets = Path("/proc/net/sockstat").read_text().split("TCP:")[1].split()
    return {
        "rss": mapped["Rss"],
        "pss": mapped["Pss"],
        "private_dirty": mapped["Private_Dirty"],
        "kernel_slab": machine["Slab"],
        # In pages.
        "kernel_tcp": int(sockets[sockets.index("mem") + 1]) * 4096,
    }


def _kilobytes(path: str) -> dict[str, int]:
    """The lines `Name: 123 kB` of a file, in bytes."""
    lines = (line.partition(":") for line in Path(path).read_text().splitlines())
    return {
        name: int(value.removesuffix("kB")) * 1024
        for name, _, value in lines
        if value.endswith(" kB")
    }


if __name__ == "__main__":
    sys.exit(main())
