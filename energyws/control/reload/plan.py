"""What a change of the settings takes: nothing, other processes, or a restart. Pure.

The table in docs/operations.md says the same; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any, Final

from energyws.settings import Settings


class Takes(Enum):
    """How a changed key comes into force."""

    NOTHING = "at once"
    CONSUMER = "a new consumer"
    WORKERS = "new workers"
    ALL = "a new consumer and new workers"
    RESTART = "a restart"


# A section, or a key of one; what is not named here takes new workers, which is always right.
TABLE: Final = {
    "kafka": Takes.CONSUMER,
    "streams": Takes.ALL,
    "history": Takes.ALL,
    "bus": Takes.ALL,
    "supervision": Takes.NOTHING,
    "log": Takes.NOTHING,
    "admin.token": Takes.NOTHING,
    "admin.host": Takes.RESTART,
    "admin.port": Takes.RESTART,
    "auth": Takes.NOTHING,
    "server.host": Takes.RESTART,
    "server.port": Takes.RESTART,
    **dict.fromkeys(
        (
            "server.max_connections",
            "server.workers",
            "server.tls",
            "server.backlog",
            "server.allowed_origins",
            "server.handshake_timeout_seconds",
            "server.drain_delay_seconds",
            "server.drain_seconds",
            "server.ping_interval_seconds",
            "server.pong_timeout_seconds",
            "server.close_timeout_seconds",
            "server.tcp_user_timeout_seconds",
            "server.max_connection_age_seconds",
            "server.max_message_bytes",
            "server.messages_per_second",
            "server.write_buffer_bytes",
        ),
        Takes.NOTHING,
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """settings: what is in force from now on; keys: what has changed, and what that takes."""

    settings: Settings
    keys: dict[str, Takes]

    def taking(self, *takes: Takes) -> list[str]:
        """The changed keys that take one of these."""
        return [key for key, what in self.keys.items() if what in takes]

    @property
    def consumer(self) -> bool:
        """Whether there must be another consumer."""
        return bool(self.taking(Takes.CONSUMER, Takes.ALL))

    @property
    def workers(self) -> bool:
        """Whether there must be other workers."""
        return bool(self.taking(Takes.WORKERS, Takes.ALL))


def plan(old: Settings, new: Settings) -> Plan:
    """How to get from the old settings to the new ones; what takes a restart stays as it was."""
    keys = {key: takes(key) for key in _changed(old, new)}
    kept = [key.split(".") for key, what in keys.items() if what is Takes.RESTART]
    for section, name in kept:
        value = getattr(getattr(old, section), name)
        new = replace(new, **{section: replace(getattr(new, section), **{name: value})})
    return Plan(new, keys)


def takes(key: str) -> Takes:
    """What a change of `section.key` takes."""
    section = key.partition(".")[0]
    return TABLE.get(key) or TABLE.get(section) or Takes.WORKERS


def _changed(old: Settings, new: Settings) -> Iterator[str]:
    for section in fields(Settings):
        before: Any = getattr(old, section.name)
        after: Any = getattr(new, section.name)
        if not is_dataclass(before):
            if before != after:
                yield section.name
            continue
        for each in fields(before):
            if getattr(before, each.name) != getattr(after, each.name):
                yield f"{section.name}.{each.name}"
