"""Configurations to start from, and what is said of the bad ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from energyws.control.config import load
from energyws.errors import ConfigError

SECRET: Final = "a-secret-of-more-than-thirty-two-bytes"
KAFKA: Final = "kafka: {brokers: b, topic: t}\n"
AUTH: Final = f"auth: {{jwt_secret: {SECRET}}}\n"
# Two lines: what a test adds begins on line 3.
GOOD: Final = KAFKA + AUTH


def problems_of(
    text: str, env: Mapping[str, str] | None = None, flags: Sequence[str] = ()
) -> list[str]:
    """What `parse` refuses the configuration for; nothing if it does not."""
    try:
        load.parse(text, "c.yaml", env or {}, flags)
    except ConfigError as error:
        return error.problems
    return []
