"""What becomes of the clients of a worker that was killed."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Kill:
    """A worker that the demo killed. Times in seconds, of one monotonic clock.

    clock: the time of day, for people. lost_at: when each of the demo's clients lost its
    connection; pauses: for how long it then received nothing. successor: the process id of the
    worker that serves in its place, and after how long. lost, repeated, received: the count of all
    clients together, at the kill and later up to the moment when everything was as before.
    """

    clock: str
    name: str
    pid: int
    at: float
    lost_at: dict[int, float] = field(default_factory=dict)
    pauses: dict[int, float] = field(default_factory=dict)
    successor: tuple[int, float] | None = None
    received: int = 0
    lost: int = 0
    repeated: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the worker has a successor and every client receives again."""
        return self.successor is not None and len(self.pauses) == len(self.lost_at)

    def text(self) -> str:
        """The story so far, in one line."""
        parts = [f"{self.name} (pid {self.pid}) killed"]
        clients = len(self.lost_at)
        if not clients:
            parts.append("it had none of our clients" if self.is_over else "…")
        elif len(self.pauses) < clients:
            parts.append(f"{len(self.pauses)} of {clients} clients resumed")
        else:
            who = "its client" if clients == 1 else f"all {clients} clients"
            parts.append(f"{who} resumed within {max(self.pauses.values()):.1f} s")
        if self.successor is not None:
            pid, seconds = self.successor
            parts.append(f"pid {pid} serves after {seconds:.1f} s")
        if self.is_over:
            parts.append(f"{self.lost:,} lost of {self.received:,}")
        return " · ".join(parts)
