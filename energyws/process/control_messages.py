"""Control messages from the supervisor to a running child, over a socket pair; no I/O here.

One JSON object per datagram. Settings and keys are secret: the socket has no name.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from energyws.settings import Logging, Settings
from energyws.settings_json import loads


class ShutdownMode(StrEnum):
    """How a child leaves.

    STOP: the whole service ends; new connections are refused, since no other worker takes them.
    HANDOVER: a successor accepts on the same socket; new connections are the successor's.
    RETIRE: no new connection goes to its socket; those that still wait in its queue are accepted,
    and then sent away like all the others.
    """

    RETIRE = "retire"
    HANDOVER = "handover"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class ShutDown:
    """Send the clients away, spread over server.drain_seconds, and end."""

    mode: ShutdownMode


@dataclass(frozen=True, slots=True)
class Shed:
    """Send `count` clients away, spread over server.drain_seconds, and keep running."""

    count: int


@dataclass(frozen=True, slots=True)
class UseSettings:
    """Use these settings from now on, and read again the files that they name."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class UseLog:
    """Write the log like this from now on; nothing else changes."""

    log: Logging


@dataclass(frozen=True, slots=True)
class UseTicketKeys:
    """Use these keys for TLS session tickets from now on; in hexadecimal digits."""

    keys: str = field(repr=False)


ControlMessage = ShutDown | Shed | UseSettings | UseLog | UseTicketKeys


def pack(message: ControlMessage) -> bytes:
    """A control message as a datagram."""
    return json.dumps({"message": type(message).__name__, **asdict(message)}).encode()


def unpack(data: bytes) -> ControlMessage:
    """The inverse of `pack`. Trusts its input: only the supervisor writes it."""
    fields = json.loads(data)
    match fields["message"]:
        case "ShutDown":
            return ShutDown(ShutdownMode(fields["mode"]))
        case "Shed":
            return Shed(fields["count"])
        case "UseLog":
            return UseLog(Logging(**fields["log"]))
        case "UseTicketKeys":
            return UseTicketKeys(fields["keys"])
        case _:
            return UseSettings(loads(json.dumps(fields["settings"]).encode()))
