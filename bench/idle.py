"""The memory of an idle service with one worker: RSS and PSS of each process, and their sum.

    python -m bench.idle

RSS counts shared pages in every process; PSS divides them among the processes. The broker is not
included.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService

MIB: Final = 1 << 20
SETTLE_SECONDS: Final = 5.0


def main() -> int:
    parser = arguments(__doc__, workers=1)
    options = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with MeasuredService(options.workers) as service:
        time.sleep(SETTLE_SECONDS)
        for name, process in service.processes().items():
            memory = process.memory_full_info()
            results[name] = {"rss_mib": memory.rss / MIB, "pss_mib": memory.pss / MIB}
    results["total"] = {
        unit: sum(row[unit] for row in results.values()) for unit in ("rss_mib", "pss_mib")
    }
    for name, row in results.items():
        print(f"{name:12}" + "".join(f"  {unit} {value:7.1f}" for unit, value in row.items()))
    save(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
