"""What a metric is; energyws.control.admin.metrics has the table of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from energyws.control.admin.samples import Labels, Read


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric. read: its samples."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    help: str
    read: Read


def gauge(name: str, text: str, read: Read, *labels: str) -> Definition:
    return Definition(name, "gauge", labels, text, read)


def counter(name: str, text: str, read: Read, *labels: str) -> Definition:
    return Definition(name, "counter", labels, text, read)


def histogram(name: str, text: str, read: Read, *labels: str) -> Definition:
    return Definition(name, "histogram", labels, text, read)
