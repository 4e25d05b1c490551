"""A working tree whose service is attacked: this one, or another revision of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

Sections = Mapping[str, Mapping[str, Any]]

_EXAMPLE: Final = Path("config", "config.example.yaml")
_SECTION: Final = re.compile(r"([a-z_]+):(?:\s|$)")
_KEY: Final = re.compile(r"  #?([a-z_]+): ")

# What an operator might set who knows their clients: much more than any honest client here needs.
LIMITS: Final[Sections] = {
    "limits": {
        "connections_per_address": 100,
        "connections_per_subject": 50,
        "connections_per_token": 25,
        "pending_per_address": 100,
        "new_connections_per_address_per_second": 100,
        "messages_per_subject_per_second": 500,
        "replay_bytes_per_subject_per_second": 64 << 20,
    },
}


def known_keys(example: str) -> frozenset[str]:
    """The keys in an example configuration, also those that are commented out: server.port, …"""
    keys = set()
    section = ""
    for line in example.splitlines():
        if match := _SECTION.match(line):
            section = match[1]
        elif match := _KEY.match(line):
            keys.add(f"{section}.{match[1]}")
    return frozenset(keys)


def merged(*several: Sections) -> dict[str, dict[str, Any]]:
    """Sections over sections: the later ones override."""
    made: dict[str, dict[str, Any]] = {}
    for sections in several:
        for name, values in sections.items():
            made.setdefault(name, {}).update(values)
    return made


class Tree:
    """checkout: None for the working tree of this harness. keys: those of its configuration."""

    def __init__(self, checkout: Path | None = None) -> None:
        self.checkout = checkout
        self._root = checkout or Path(__file__).parents[2]
        self.keys = known_keys((self._root / _EXAMPLE).read_text())

    def lacks(self, keys: tuple[str, ...]) -> list[str]:
        """Those that its configuration does not have."""
        return [key for key in keys if key not in self.keys]

    def fitting(self, sections: Sections) -> dict[str, dict[str, Any]]:
        """The sections without the keys that it does not know."""
        known = {
            name: {key: value for key, value in values.items() if f"{name}.{key}" in self.keys}
            for name, values in sections.items()
        }
        return {name: values for name, values in known.items() if values}

    def revision(self) -> str:
        """The commit that is checked out, with a mark if files differ from it."""
        found = subprocess.run(
            ["git", "-C", str(self._root), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=False,
        )
        return found.stdout.strip() or "unknown"
