"""What a change of the settings takes: nothing, new processes, or a restart. Pure.

docs/operations.md shows the table; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any, Final

from energyws.settings import Settings


class Takes(Enum):
    """What it takes until a changed key has effect."""

    NOTHING = "at once"
    CONSUMER = "a new consumer"
    WORKERS = "new workers"
    ALL = "a new consumer and new workers"
    RESTART = "a restart"


# Sections, or keys in them; any other key takes new workers, which is always enough.
TABLE: Final = {
    "kafka": Takes.CONSUMER,
    "streams": Takes.ALL,
    "schema_registry": Takes.CONSUMER,
    "history": Takes.ALL,
    "bus": Takes.ALL,
    "supervision": Takes.NOTHING,
    "supervision.core_dumps": Takes.RESTART,
    "limits": Takes.NOTHING,
    "log": Takes.NOTHING,
    "admin": Takes.RESTART,
    "admin.hosts": Takes.NOTHING,
    "admin.token": Takes.NOTHING,
    "auth": Takes.NOTHING,
    # Clients that are connected must not keep the keys that another claim gave them.
    "auth.keys_claim": Takes.WORKERS,
    "server.host": Takes.RESTART,
    "server.port": Takes.RESTART,
    **dict.fromkeys(
        (
            "server.max_connections",
            "server.workers",
            "server.tls",
            "server.backlog",
            "server.allowed_origins",
            "server.trusted_proxies",
            "server.forwarded_header",
            "server.proxy_protocol",
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
            "server.send_buffer_bytes",
            "server.shed_at_memory_percent",
        ),
        Takes.NOTHING,
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """settings: to be used from now on; keys: those that have changed, and what each takes."""

    settings: Settings
    keys: dict[str, Takes]

    def taking(self, *takes: Takes) -> list[str]:
        """The changed keys that take one of `takes`."""
        return [key for key, what in self.keys.items() if what in takes]

    @property
    def consumer(self) -> bool:
        """Whether to replace the consumer."""
        return bool(self.taking(Takes.CONSUMER, Takes.ALL))

    @property
    def workers(self) -> bool:
        """Whether to replace the workers."""
        return bool(self.taking(Takes.WORKERS, Takes.ALL))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a reload.

    changed: the keys that changed; restart: those of them that take a restart; problems: why the
    new settings were refused, one line each, empty if they were applied.
    """

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def plan(old: Settings, new: Settings) -> Plan:
    """How to get from the old settings to the new ones, without the keys that take a restart."""
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


def effect(key: str) -> str:
    """When a change of `section.key` has effect, in words."""
    match takes(key):
        case Takes.NOTHING:
            return "at once"
        case Takes.RESTART:
            return "after a restart"
        case other:
            return f"with {other.value}"


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
