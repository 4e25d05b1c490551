"""What an attack knows of the service, and what it counts. Part of the attacker's process."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

CONNECT_SECONDS: Final = 1.0
# Behind schedule, an attacker does not make up for more than this.
_LATE_SECONDS: Final = 0.05
_TICK_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Given to the attacker's process as JSON.

    seconds: it ends by itself after this time. tokens: of one subject each; the first one is "the"
    token of attacks that have only one. epoch: of the stream's positions.
    """

    name: str
    port: int
    admin_port: int
    tokens: list[str]
    epoch: str
    seconds: float
    certificate: str | None = None


class Target:
    """counts: what the attacker did and what it saw; in the results."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.counts: Counter[str] = Counter()
        self.random = random.Random(plan.name)
        self._until = time.monotonic() + plan.seconds
        self._over = threading.Event()

    @property
    def going(self) -> bool:
        """Whether the attack goes on."""
        return not self._over.is_set() and time.monotonic() < self._until

    @property
    def token(self) -> str:
        return self.plan.tokens[0]

    def end(self) -> None:
        """End the attack; from any thread."""
        self._over.set()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the attack."""
        self._over.wait(max(0.0, min(seconds, self._until - time.monotonic())))

    def made(self, number: int = 0) -> socket.socket:
        """A socket of the attacker's address; other numbers are other addresses of its network."""
        made = socket.socket()
        made.settimeout(CONNECT_SECONDS)
        made.bind((address(number), 0))
        return made

    def connected(self, number: int = 0) -> socket.socket:
        """A blocking connection to the clients' port; raises OSError."""
        made = self.made(number)
        try:
            made.connect(("127.0.0.1", self.plan.port))
        except OSError:
            made.close()
            raise
        return made

    def due(self, rate: float) -> Callable[[], int]:
        """A function that says how many actions have become due since its last call."""
        last = time.monotonic()
        share = 0.0

        def count() -> int:
            nonlocal last, share
            now = time.monotonic()
            share = min(share + (now - last) * rate, max(1.0, rate * _LATE_SECONDS))
            last = now
            whole = int(share)
            share -= whole
            return whole

        return count

    def paced(self, rate: float) -> Iterator[None]:
        """Yields once for each action, `rate` times a second, until the attack ends."""
        due = self.due(rate)
        while self.going:
            for _ in range(due()):
                if not self.going:
                    return
                yield
            self.pause(min(_TICK_SECONDS, 1 / rate))


def address(number: int) -> str:
    """Addresses of attackers; no honest client has one of 127.0.9.0/24 and up."""
    high, low = divmod(number, 250)
    return f"127.0.{9 + high}.{1 + low}"
