"""What the supervisor tells a running child, over a socket that both hold; no I/O here.

One JSON object per datagram. The settings among them hold secrets: the socket has no name.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from energyws.settings import Logging, Settings, loads


class ShutdownMode(StrEnum):
    """How a child leaves.

    STOP: the whole service ends; newcomers are refused, since nobody is there to take them.
    HANDOVER: a successor accepts on the same socket; newcomers are the successor's.
    RETIRE: no new connection is sent to its socket; what still waits in the queue is let in, and
    sent on like everybody else.
    """

    RETIRE = "retire"
    HANDOVER = "handover"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Leave:
    """Send the clients away, spread over server.drain_seconds, and end."""

    how: ShutdownMode


@dataclass(frozen=True, slots=True)
class Shed:
    """Send so many clients away, spread over server.drain_seconds, and go on."""

    count: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """Use these settings from now on, and read again the files that they name."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Write:
    """Write the log like this from now on; nothing else changes."""

    log: Logging


ControlMessage = Leave | Shed | Adopt | Write


def pack(order: ControlMessage) -> bytes:
    """An order as a datagram."""
    return json.dumps({"order": type(order).__name__, **asdict(order)}).encode()


def unpack(data: bytes) -> ControlMessage:
    """The inverse of `pack`. Trusts its input: only the supervisor writes it."""
    fields = json.loads(data)
    match fields["order"]:
        case "Leave":
            return Leave(ShutdownMode(fields["how"]))
        case "Shed":
            return Shed(fields["count"])
        case "Write":
            return Write(Logging(**fields["log"]))
        case _:
            return Adopt(loads(json.dumps(fields["settings"]).encode()))
