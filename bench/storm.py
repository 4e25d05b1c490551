"""Many clients lose their connections and come back together: the time until all have caught up.

    python -m bench.storm                                   10,000 clients, every variant
    python -m bench.storm --clients 2000 --only seen        one variant, fewer clients

All clients connect, get records, lose their connections, miss some records, and reconnect almost
simultaneously, each with its own token and position. Others stay live throughout, and their delay
is measured before and meanwhile. The variants:

seen          each client uses the same token as before
fresh         each uses a token that no worker has verified yet
tls           as `seen` over TLS, each with a full handshake
tls_sessions  as `tls`, but each offers its previous session

Without TLS all connect together; with TLS, 500 at a time, since one generator can handle no more.
Times start at the first connect. CPU time is a process's total from the first connect until every
client has caught up, including live delivery, divided by the number of clients; with --rate 2 there
is little live delivery, so this is the cost of reconnecting. The workers' loop delay is taken from
their heartbeats, four a second. Exits with status 1 if a client was refused, lost a record or got
one twice, or if it took longer than --limit.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import psutil

from bench.kit.load import CLIENTS_PER_ADDRESS, Load, exact
from bench.kit.measuring import measured, repeating
from bench.kit.record import padded
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer, writing
from bench.resume import delays
from energyws.testing import eventually

VARIANTS: Final = ("seen", "fresh", "tls", "tls_sessions")
STEPS: Final = ("upgraded", "subscribed", "caught_up")
# At which the records that clients miss are written.
MISSED_RATE: Final = 20.0
BASELINE_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.1
# A TLS handshake costs a client as much as a worker, and here all clients share one thread: if they
# all started together, most handshakes would exceed the service's timeout.
TLS_AT_ONCE: Final = 500


def main() -> int:
    parser = arguments(__doc__, workers=2, clients=10_000, live=1_000, bytes=1138)
    parser.add_argument("--missed", type=int, default=30, help="records that each client misses")
    parser.add_argument("--rate", type=float, default=20.0, help="live records a second, 2 or more")
    parser.add_argument("--limit", type=float, help="seconds until every client has caught up")
    parser.add_argument("--only", choices=VARIANTS, action="append")
    options = parser.parse_args()
    rows = {}
    for variant in options.only or VARIANTS:
        rows[variant] = row = storm(variant, options)
        print(variant, *(f"{name}={value}" for name, value in row.items()), flush=True)
    names = ("workers", "clients", "live", "missed", "rate")
    save(options.out, {**{name: getattr(options, name) for name in names}, "storms": rows})
    return 0 if all(row["good"] for row in rows.values()) else 1


def storm(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """One variant: all clients disconnect and come back."""
    tls = variant.startswith("tls")
    with MeasuredService(options.workers, tls=tls) as service, contextlib.ExitStack() as stack:
        # One token per client and, for `fresh`, another one for its reconnect.
        tokens = service.tokens(options.clients * (2 if variant == "fresh" else 1))
        epoch = service.position().partition("-")[0]
        writer = Writer(service.brokers, lambda p, n: padded(p, n, options.bytes))
        live = stack.enter_context(service.load(options.live))
        crowd = stack.enter_context(
            Load(
                service.port,
                options.clients,
                tokens,
                tls=tls,
                sessions=variant == "tls_sessions",
                concurrency=TLS_AT_ONCE if tls else options.clients,
                # After the addresses of the live clients.
                address=-(-options.live // CLIENTS_PER_ADDRESS),
            )
        )
        with writing(writer, options.rate):
            time.sleep(1)
            live.counts(restart=True)
            time.sleep(BASELINE_SECONDS)
            before = _rounded(live)
        # Until all clients have the same records.
        crowd.all_have(writer.sent)
        reused = crowd.counts()["reused"]
        crowd.drop()
        eventually(
            lambda: service.totals()["connections"] <= options.live,
            "the workers have closed the broken connections",
            PATIENCE_SECONDS,
        )
        # The records that every client misses.
        writer.write(MISSED_RATE, options.missed / MISSED_RATE)
        live.all_have(writer.sent)
        live.counts(restart=True)
        processes = {**service.processes(), "generator": psutil.Process(crowd.pid)}
        with writing(writer, options.rate):
            with measured(processes) as used, _watched(service) as loop_delay:
                crowd.again(epoch, options.missed)
                refused = crowd.settled()
            meanwhile = _rounded(live)
        counts = [load.all_have(writer.sent) for load in (live, crowd)]
        times = crowd.times()
        sent_by = service.io_uring()
    complete = all(exact(each, writer.sent) for each in counts)
    seconds = {name: [at / 1e6 for at in times[name]] for name in STEPS}
    last = {name: round(max(all_), 3) for name, all_ in seconds.items()}
    in_time = options.limit is None or last["caught_up"] <= options.limit
    return {
        "io_uring": sent_by,
        "seconds_until_last": last,
        "seconds_until_half": {
            name: round(sorted(all_)[len(all_) // 2], 3) for name, all_ in seconds.items()
        },
        "cpu_us_per_client": {
            name: round(usage / options.clients * 1e6, 1) for name, usage in used.items()
        },
        "refused": refused,
        "sessions_resumed": counts[1]["reused"] - reused,
        "gaps": sum(each["gaps"] for each in counts),
        "loop_delay_ms": loop_delay,
        "live_delay_ms_before": before,
        "live_delay_ms_meanwhile": meanwhile,
        "exactly_once": complete,
        "good": complete and not refused and in_time,
    }


@contextlib.contextmanager
def _watched(service: MeasuredService) -> Iterator[dict[str, float]]:
    """Yields a dict that collects each worker's longest loop delay, in milliseconds."""
    worst: dict[str, float] = {}

    def workers() -> dict[str, dict[str, Any]]:
        return {name: board for name, board in service.boards().items() if "worker" in name}

    # The current heartbeat on the board is from before the block.
    before = {name: board["beat"] for name, board in workers().items()}

    def watch() -> None:
        for name, board in workers().items():
            if board["beat"] != before[name]:
                worst[name] = max(worst.get(name, 0.0), board["loop_delay_us"] / 1000)

    with repeating(watch, LOOK_SECONDS):
        yield worst


def _rounded(load: Load) -> dict[str, float]:
    return {name: round(value, 2) for name, value in delays(load).items()}


if __name__ == "__main__":
    sys.exit(main())
