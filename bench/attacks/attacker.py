"""The attacker, a process of its own: `python -m bench.attacks.attacker`.

It reads a Plan from stdin, answers {}, attacks until stdin is closed or another line comes, and
prints its counts. It runs only while nothing else wants its core (SCHED_IDLE, sched(7)), so that
honest clients that share the core do not wait for it.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from dataclasses import asdict

import orjson

from bench.attacks.classes import ATTACKS
from bench.attacks.target import Plan, Target
from bench.kit.line_process import LineProcess


class Attacker(LineProcess):
    """The process of one attack."""

    def __init__(self, plan: Plan) -> None:
        super().__init__([sys.executable, "-m", "bench.attacks.attacker"])
        # It has begun.
        self.ask(orjson.dumps(asdict(plan)).decode())

    def end(self) -> dict[str, int]:
        """End the attack; what the attacker counted."""
        counts: dict[str, int] = self.ask("end")
        return counts


def main() -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    target = Target(Plan(**orjson.loads(sys.stdin.readline())))

    def wait() -> None:
        sys.stdin.readline()
        target.end()

    threading.Thread(target=wait, daemon=True).start()
    print("{}", flush=True)
    ATTACKS[target.plan.name].run(target)
    print(orjson.dumps(target.counts).decode(), flush=True)


if __name__ == "__main__":
    main()
