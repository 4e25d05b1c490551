"""Does every client get every record exactly once, in order per partition?

    python -m bench.exactly_once --workers 2 --clients 2000 --rate 20 --seconds 60

Ends with status 1 if not.
"""

from __future__ import annotations

import argparse
import sys

from bench.record import padded
from bench.service import Service, Writer, measured, percentile, report


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--bytes", type=int, default=440, help="size of a frame's payload")
    parser.add_argument("--out", help="write the results here, as JSON")
    options = parser.parse_args()
    with Service(options.workers) as service:
        load = service.load(options.clients)
        try:
            writer = Writer(service.brokers, lambda p, n: padded(p, n, options.bytes))
            with measured(service.processes()) as used:
                writer.write(options.rate, options.seconds)
                counts = load.all_have(writer.sent)
        finally:
            load.close()
    delays, spreads = counts.pop("delays"), counts.pop("spreads")
    expected = writer.sent * options.clients
    exact = (
        counts["frames"] == expected
        and counts["least"] == counts["most"] == writer.sent
        and counts["gaps"] == counts["duplicates"] == counts["closed"] == 0
    )
    results = {
        **counts,
        "records": writer.sent,
        "expected": expected,
        "exactly_once": exact,
        "delay_ms": {f"p{p:g}": percentile(delays, p / 100) / 1000 for p in (50, 99, 100)},
        "first_to_last_ms": percentile(spreads, 0.5) / 1000,
        "cpu_seconds": {name: round(usage.total, 2) for name, usage in used.items()},
    }
    for name, value in results.items():
        print(f"{name:14} {value}")
    report(options.out, results)
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
