"""Memory and CPU time of an idle service with one worker: of each process, and their sum.

    python -m bench.idle --seconds 20

RSS counts shared pages in every process; PSS divides them among the processes. CPU time is that of
a second, with the settings for fetching as they are shipped. The broker is not included.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from bench.kit.measuring import measured
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService

MIB: Final = 1 << 20
SETTLE_SECONDS: Final = 5.0


def main() -> int:
    parser = arguments(__doc__, workers=1, seconds=20.0)
    options = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with MeasuredService(options.workers, kafka={"options": {}}) as service:
        time.sleep(SETTLE_SECONDS)
        processes = service.processes()
        with measured(processes) as used:
            time.sleep(options.seconds)
        for name, process in processes.items():
            memory = process.memory_full_info()
            results[name] = {
                "rss_mib": memory.rss / MIB,
                "pss_mib": memory.pss / MIB,
                "cpu_ms_per_second": used[name] / options.seconds * 1000,
            }
    results["total"] = {
        unit: sum(row[unit] for row in results.values()) for unit in results["supervisor"]
    }
    for name, row in results.items():
        print(f"{name:12}" + "".join(f"  {unit} {value:7.2f}" for unit, value in row.items()))
    save(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
