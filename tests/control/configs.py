"""Configurations to start from, and the problems of bad ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from energyws.control.config import load, yaml_tree
from energyws.control.config.problems import Problems
from energyws.errors import ConfigError

SECRET: Final = "a-secret-of-more-than-thirty-two-bytes"
KAFKA: Final = "kafka: {brokers: b, topic: t}\n"
AUTH: Final = f"auth: {{jwt_secret: {SECRET}}}\n"
# Two lines: the text that a test adds begins on line 3.
GOOD: Final = KAFKA + AUTH

# From the README of the predecessor.
SEED: Final = """\
kafka:
  brokers: "redpanda-v2.redpanda-v2.svc.cluster.local:9092"
  topic: "homelab-energy-realtime"
  group_id: "energy-ws"
  auto_offset_reset: "latest"

server:
  host: "0.0.0.0"
  port: 8080
  max_connections: 1000

auth:
  jwt_secret: "$(JWT_SECRET)"  # From environment
"""
# A secret that no message may show.
CANARY: Final = "hunter2-hunter2"


def problems_of(
    text: str, env: Mapping[str, str] | None = None, flags: Sequence[str] = ()
) -> list[str]:
    """The problems for which `parse` refuses the configuration; empty if it does not."""
    try:
        load.parse(text, "c.yaml", env or {}, flags)
    except ConfigError as error:
        return error.problems
    return []


def yaml(text: str) -> Any:
    """The values of a YAML text."""
    return yaml_tree.read(text, Problems(""))
