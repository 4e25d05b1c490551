"""When the fan-outs of a worker work: in turns of bounded length, with rests between the rounds."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import Final

from workers.runtime import crash_on_error
from workers.websocket.fanout.fanout import Fanout

WRITES_PER_TURN: Final = 1_000
# After a round in which every client was served, live delivery rests for half of the time that the
# round took: where frames come faster than that, more of them share a write, and a third of the
# time is left for everything else.
REST_SHARE: Final = 0.5
MAX_REST_SECONDS: Final = 0.02


class Turns:
    """Runs `fanouts`; which of them is first rotates."""

    def __init__(self) -> None:
        self.fanouts: deque[Fanout] = deque()
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        # When the round began; None between rounds.
        self._began: float | None = None
        self._rest_until = 0.0
        self._rest: asyncio.TimerHandle | None = None
        # For work that is due later, though nothing comes.
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def resting(self) -> bool:
        """Whether the next turn waits for the end of a rest."""
        return self._rest is not None

    @property
    def idle(self) -> bool:
        """Whether no turn is to come."""
        return not self._scheduled and self._rest is None

    def close(self) -> None:
        for timer in (self._rest, self._alarm):
            if timer is not None:
                timer.cancel()

    def schedule(self) -> None:
        """Have a turn in the event loop's next iteration, also during a rest."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def schedule_after_rest(self, now: float) -> None:
        """Have a turn as soon as the rest is over."""
        if self._scheduled or self._rest is not None:
            return
        if now >= self._rest_until:
            self.schedule()
        else:
            self._rest = self._loop.call_later(self._rest_until - now, self._turn)

    @crash_on_error
    def _turn(self) -> None:
        self._scheduled = False
        self._rest = None
        now = time.monotonic()
        if self._began is None:
            self._began = now
        writes = WRITES_PER_TURN
        self.fanouts.rotate(-1)
        unserved = False
        for fanout in self.fanouts:
            if writes <= 0:
                unserved = True
                break
            writes = fanout.work(writes, now)
        if unserved or any(fanout.is_busy() for fanout in self.fanouts):
            self.schedule()
            return
        now = time.monotonic()
        self._rest_until = now + min((now - self._began) * REST_SHARE, MAX_REST_SECONDS)
        self._began = None
        self._set_alarm(min(fanout.wake_at for fanout in self.fanouts) - now)
        if any(fanout.has_news() for fanout in self.fanouts):
            self.schedule_after_rest(now)

    def _set_alarm(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if seconds < math.inf:
            self._alarm = self._loop.call_later(max(0.0, seconds), self._wake)

    @crash_on_error
    def _wake(self) -> None:
        self.schedule()
