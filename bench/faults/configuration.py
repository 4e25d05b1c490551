"""The configuration of the service under fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bench.faults import keys
from bench.faults.service import free_port

# Far more often than in operation, so that faults meet `position` messages.
POSITION_SECONDS: Final = 0.5
# Differs from the defaults, since crashes are far more frequent here than in operation: they must
# neither end the service nor lengthen its pauses before restarts.
CONFIG: Final[Mapping[str, Mapping[str, Any]]] = {
    "server": {"workers": 2, "max_connections": 100_000},
    "supervision": {
        "crash_loop_count": 1_000_000,
        "backoff_max_seconds": 0.5,
        "hang_seconds": 2.0,
    },
}


def sections(
    changes: Mapping[str, Mapping[str, Any]],
    *,
    topic: str,
    keyed: bool,
    io_uring: str | None,
    tls: Mapping[str, str] | None,
    auth: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """Ports are chosen, CONFIG holds, and what a class changes comes last.

    keyed: the records of the topic have keys, and each client those of its token. The rest: what to
    put there, if anything.
    """
    chosen: dict[str, dict[str, Any]] = {
        "server": {"port": free_port()},
        "admin": {"port": free_port()},
        "auth": dict(auth),
    }
    if io_uring is not None:
        chosen["server"]["io_uring"] = io_uring
    if tls is not None:
        chosen["server"]["tls"] = tls
    if keyed:
        chosen["streams"] = keys.section(topic)
        chosen["server"]["position_seconds"] = POSITION_SECONDS
    made: dict[str, dict[str, Any]] = {}
    for part in (CONFIG, chosen, changes):
        for name, values in part.items():
            made[name] = {**made.get(name, {}), **values}
    return made
