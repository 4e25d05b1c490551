"""The state of the demo, from what its clients receive and what the service says of itself.

Knows no terminal and no process. `now` and `at` are seconds of a monotonic clock; `unix` is the
time of day in Unix seconds.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from energyws.client import Gap, Message, Reading
from energyws.control.status.model import ProcessView, ServiceView
from energyws.demo.screen.kills import Kill
from energyws.demo.screen.sparkline import Trace
from energyws.demo.screen.tally import Tally

# The widest sparkline, and the window of delays.
TRACE_SECONDS: Final = 240
DELAY_SECONDS: Final = 30.0
_KILLS: Final = 50


@dataclass(frozen=True, slots=True)
class MeterView:
    """A meter. watts: its newest reading; trace: a value per second, None where none arrived."""

    serial: str
    watts: float
    trace: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class DemoView:
    """Everything that the screen shows. delays: p50 and p99 in seconds, of the last 30 s.

    received, lost, repeated, reconnects: of all clients together. live: how many clients are
    subscribed. service: None before the first answer of the admin port. kills: the newest last.
    """

    meters: Sequence[MeterView]
    clients: int
    live: int
    reconnects: int
    delays: tuple[float, float] | None
    received: int
    lost: int
    repeated: int
    service: ServiceView | None
    kills: Sequence[Kill]
    up_seconds: float


class Model:
    """Follows `clients` clients from `started` on; number 0 is the one whose readings are shown."""

    def __init__(self, clients: int, started: float) -> None:
        self._started = started
        self._tallies = [Tally() for _ in range(clients)]
        self._live: set[int] = set()
        # Those that have been live at any time.
        self._known: set[int] = set()
        self._reconnects = 0
        self._meters: dict[str, tuple[float, Trace]] = {}
        # The time of arrival, and the delay.
        self._delays: deque[tuple[float, float]] = deque()
        self._service: ServiceView | None = None
        self._kills: deque[Kill] = deque(maxlen=_KILLS)

    def take(self, client: int, message: Message, now: float, unix: float) -> None:
        """Count what a client has received."""
        tally = self._tallies[client]
        if isinstance(message, Gap):
            tally.skip(message.position)
        if not isinstance(message, Reading):
            return
        tally.take(message.position)
        written = datetime.fromisoformat(message.timestamp).timestamp()
        self._delays.append((now, max(0.0, unix - written)))
        if client == 0:
            self._show(message, written)
        for kill in self._kills:
            if client in kill.lost_at and client not in kill.pauses and client in self._live:
                kill.pauses[client] = now - kill.lost_at[client]
                self._settle(kill)

    def change(self, client: int, *, live: bool, now: float) -> None:
        """A client has connected and subscribed, or has lost its connection."""
        if live:
            self._reconnects += client in self._known and client not in self._live
            self._known.add(client)
            self._live.add(client)
        elif client in self._live:
            self._live.remove(client)
            if self._kills and not self._kills[-1].is_over:
                self._kills[-1].lost_at.setdefault(client, now)

    def sample(self, service: ServiceView, now: float) -> None:
        """Take the service's own view of itself."""
        self._service = service
        for kill in self._kills:
            if kill.successor is None:
                for worker in service.processes:
                    if (
                        worker.name == kill.name
                        and worker.pid not in (None, kill.pid)
                        and worker.state == "ready"
                    ):
                        kill.successor = worker.pid or 0, now - kill.at
                        self._settle(kill)

    def kill(self, worker: ProcessView, now: float, unix: float) -> None:
        """The demo has killed this worker."""
        clock = time.strftime("%H:%M:%S", time.localtime(unix))
        self._kills.append(Kill(clock, worker.name, worker.pid or 0, now))

    def victims(self) -> list[ProcessView]:
        """The workers that are worth killing: those with clients, where there are such.

        One that is being replaced is left alone.
        """
        if self._service is None:
            return []
        replaced = {kill.pid for kill in self._kills if kill.successor is None}
        workers = [
            each
            for each in self._service.processes
            if each.is_worker and each.state == "ready" and each.pid not in replaced
        ]
        return [each for each in workers if each.connections] or workers

    def view(self, now: float, unix: float) -> DemoView:
        """The state at this moment."""
        while self._delays and now - self._delays[0][0] > DELAY_SECONDS:
            self._delays.popleft()
        received, lost, repeated = self._totals()
        return DemoView(
            meters=[
                MeterView(serial, watts, trace.until(unix))
                for serial, (watts, trace) in sorted(self._meters.items())
            ],
            clients=len(self._tallies),
            live=len(self._live),
            reconnects=self._reconnects,
            delays=_quantiles([delay for _, delay in self._delays]),
            received=received,
            lost=lost,
            repeated=repeated,
            service=self._service,
            kills=list(self._kills),
            up_seconds=now - self._started,
        )

    def _show(self, reading: Reading, written: float) -> None:
        serial = reading.data["saveeyeDeviceSerialNumber"]
        watts = reading.data["activeActualConsumption"]["total"]
        _, trace = self._meters.get(serial) or (watts, Trace(TRACE_SECONDS))
        trace.add(written, watts)
        self._meters[serial] = watts, trace

    def _settle(self, kill: Kill) -> None:
        if kill.is_over:
            kill.received, kill.lost, kill.repeated = self._totals()

    def _totals(self) -> tuple[int, int, int]:
        tallies = self._tallies
        return (
            sum(each.received for each in tallies),
            sum(each.lost for each in tallies),
            sum(each.repeated for each in tallies),
        )


def _quantiles(delays: list[float]) -> tuple[float, float] | None:
    """The 50th and the 99th percentile, by nearest rank."""
    if not delays:
        return None
    delays.sort()
    p50, p99 = (delays[math.ceil(share * len(delays)) - 1] for share in (0.5, 0.99))
    return p50, p99
