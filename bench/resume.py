"""The effect on live clients when many others resume after a long absence.

    python -m bench.resume --resuming 1000 --records 10000 --live 1000

Clients resume from Kafka's log, from positions older than everything the service has in memory,
while others stay live. The delay of live clients is measured before and meanwhile, in the same run.
Every record of every client is checked. Exits with status 1 if a client lost a record or got one
twice.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Final

from bench.kit.load import Load
from bench.kit.measuring import measured, percentiles
from bench.kit.record import padded
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer, writing

BASELINE_SECONDS: Final = 20.0
# Far fewer records than the log has.
MEMORY: Final = {"max_frames": 500, "warm": 100}
WRITE_RATE: Final = 5_000


def delays(load: Load) -> dict[str, float]:
    """The live clients' delays since the last restart, in milliseconds."""
    return percentiles(load.counts(restart=True)["delays"], 50, 99, 100)


def main() -> int:
    parser = arguments(__doc__, workers=2, live=1000, resuming=1000, bytes=440)
    parser.add_argument("--records", type=int, default=10_000, help="that each client missed")
    parser.add_argument("--rate", type=float, default=20, help="records a second meanwhile")
    options = parser.parse_args()
    with MeasuredService(options.workers, history=MEMORY) as service:
        position = service.position()
        writer = Writer(service.brokers, lambda p, n: padded(p, n, options.bytes))
        writer.write(WRITE_RATE, options.records / WRITE_RATE)
        with service.load(options.live) as live:
            with writing(writer, options.rate):
                time.sleep(2)
                live.counts(restart=True)
                time.sleep(BASELINE_SECONDS)
                before = delays(live)
                with measured(service.processes()) as used:
                    began = time.monotonic()
                    resuming = Load(service.port, options.resuming, service.token, position)
                    resuming.ready().all_have(options.records)
                    seconds = time.monotonic() - began
                meanwhile = delays(live)
                read_back = service.totals()["read_back"]
            seen = [live.counts(), resuming.all_have(writer.sent)]
            resuming.close()
    exact = all(one["gaps"] == one["duplicates"] == one["closed"] == 0 for one in seen)
    exact = exact and seen[1]["least"] == seen[1]["most"] == writer.sent
    results: dict[str, Any] = {
        "resuming": options.resuming,
        "records_each": options.records,
        "seconds_until_all_have_them": round(seconds, 2),
        "records_read_from_kafka": read_back,
        "live": options.live,
        "live_delay_ms_before": before,
        "live_delay_ms_meanwhile": meanwhile,
        "p99_ratio": round(meanwhile["p99"] / before["p99"], 2),
        "cpu_seconds_meanwhile": {name: round(usage, 2) for name, usage in used.items()},
        "exactly_once": exact,
    }
    for name, value in results.items():
        print(f"{name:28} {value}")
    save(options.out, results)
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
