"""Does every client get every record exactly once, in order per partition?

    python -m bench.exactly_once --workers 2 --clients 2000 --rate 20 --seconds 60

Exits with status 1 if not.
"""

from __future__ import annotations

import sys

from bench.kit.load import exact
from bench.kit.measuring import measured, percentile, percentiles
from bench.kit.record import padded
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer


def main() -> int:
    parser = arguments(__doc__, workers=2, clients=2000, rate=20.0, seconds=60.0, bytes=440)
    options = parser.parse_args()
    with MeasuredService(options.workers) as service, service.load(options.clients) as load:
        writer = Writer(service.brokers, lambda p, n: padded(p, n, options.bytes))
        with measured(service.processes()) as used:
            writer.write(options.rate, options.seconds)
            counts = load.all_have(writer.sent)
    delays, spreads = counts.pop("delays"), counts.pop("spreads")
    expected = writer.sent * options.clients
    complete = counts["frames"] == expected and exact(counts, writer.sent)
    results = {
        **counts,
        "records": writer.sent,
        "expected": expected,
        "exactly_once": complete,
        "delay_ms": percentiles(delays, 50, 99, 100),
        "first_to_last_ms": percentile(spreads, 0.5) / 1000,
        "cpu_seconds": {name: round(usage, 2) for name, usage in used.items()},
    }
    for name, value in results.items():
        print(f"{name:14} {value}")
    save(options.out, results)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
