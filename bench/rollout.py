"""A rolling restart with many quiet clients of a few keys each: does any of them need the log?

    python -m bench.rollout --clients 20000 --rate 100 --drain 20

Every process is replaced, one at a time (USR2). Each client has one meter, so at 100 records a
second hardly any has a record of its own in the meantime; what it resumes from is the `position`
that it was told before its connection was closed. Counted are the records that were read again from
the log, the frames that came twice, and the time until the last client is back: from the signal,
and without its connection. Exits with status 1 if a record was read again, lost, or came twice.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import Any, Final

from bench.kit.crowds import Crowds
from bench.kit.measuring import measured, repeating
from bench.kit.meters import Meters, delivered, faults, stream, tokens
from bench.kit.results import arguments, save
from bench.kit.service import PATIENCE_SECONDS, MeasuredService
from bench.kit.writer import writing
from energyws.testing import eventually

SETTLE_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.2


class ReadAgain:
    """How many records were read again for clients, over all runs of the consumer."""

    def __init__(self, service: MeasuredService) -> None:
        self._service = service
        self._last = 0
        self.records = 0

    def look(self) -> None:
        now = self._service.boards().get("consumer", {}).get("read_back")
        if now is not None:
            # A new consumer begins at 0.
            self.records += now - self._last if now >= self._last else now
            self._last = now


def replaced(service: MeasuredService, before: set[int], workers: int) -> bool:
    """Whether all processes are new and ready."""
    children = service.admin("/workers")[1] or []
    return len(children) == workers + 1 and all(
        child["state"] == "ready" and child["pid"] not in before for child in children
    )


def main() -> int:
    parser = arguments(
        __doc__,
        clients=20_000,
        workers=2,
        rate=100.0,
        drain=20.0,
        bytes=360,
    )
    options = parser.parse_args()
    clients = options.clients
    server = {"drain_seconds": options.drain}
    with MeasuredService(options.workers, server=server, streams=stream()) as service:
        meters = Meters(service.brokers, lambda number: number * 7919 % clients, options.bytes)
        owned = tokens([client] for client in range(clients))
        with Crowds(service, clients, owned, returning=True) as crowds:
            again = ReadAgain(service)
            with writing(meters, options.rate):
                time.sleep(SETTLE_SECONDS)
                again.look()
                warm = again.records
                before = {child.pid for child in service.children().values()}
                processes = crowds.processes()
                began = time.monotonic()
                with repeating(again.look, LOOK_SECONDS), measured(processes):
                    service.signal(signal.SIGUSR2)
                    eventually(
                        lambda: replaced(service, before, options.workers),
                        "all processes are replaced",
                        PATIENCE_SECONDS,
                    )
                    new = time.monotonic() - began
                    eventually(
                        lambda: crowds.counts()["away"] == 0,
                        "all clients are back",
                        PATIENCE_SECONDS,
                    )
                    back = time.monotonic() - began
                    # What was read for the last ones.
                    time.sleep(2 * LOOK_SECONDS)
            due = meters.due(range(clients))
            counts = delivered(crowds.counts, due)
    results: dict[str, Any] = {
        "clients": clients,
        "workers": options.workers,
        "drain_seconds": options.drain,
        "records_per_second": options.rate,
        "returned": counts["returned"],
        "refused": counts["failed"],
        "records_read_again": again.records - warm,
        **faults(counts, due),
        "seconds_until_all_processes_were_new": round(new, 1),
        "seconds_until_all_were_back": round(back, 1),
        "longest_away_seconds": round(counts["longest_away_us"] / 1e6, 2),
    }
    for name, value in results.items():
        print(f"{name:38} {value}")
    save(options.out, results)
    wrong = ("records_read_again", "lost", "gaps", "duplicates")
    return 1 if any(results[name] for name in wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
