"""The memory of an idle service with one worker: RSS and PSS of each process, and the sum.

    python -m bench.idle

RSS counts shared pages in every process, PSS shares them out; the broker is not counted.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Final

from bench.service import Service, report

MIB: Final = 1 << 20
SETTLE_SECONDS: Final = 5.0


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", help="write the results here, as JSON")
    options = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with Service(options.workers) as service:
        time.sleep(SETTLE_SECONDS)
        for name, process in service.processes().items():
            memory = process.memory_full_info()
            results[name] = {"rss_mib": memory.rss / MIB, "pss_mib": memory.pss / MIB}
    results["total"] = {
        unit: sum(row[unit] for row in results.values()) for unit in ("rss_mib", "pss_mib")
    }
    for name, row in results.items():
        print(f"{name:12}" + "".join(f"  {unit} {value:7.1f}" for unit, value in row.items()))
    report(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
