"""The running service, as the live view asks it and tells it."""

from __future__ import annotations

from typing import Final

from energyws.control.admin.client import AdminClient
from energyws.control.status.keys import KeyCommand
from energyws.control.status.model import Document
from energyws.settings import MAX_WORKERS

_BY: Final = {KeyCommand.MORE: 1, KeyCommand.LESS: -1}


def look(remote: AdminClient) -> Document:
    """What the service shows of itself now; raises AdminRequestFailed."""
    document = remote.get("/status")
    if not isinstance(document, dict) or "processes" not in document:
        raise remote.stranger()
    return document


def carry_out(remote: AdminClient, command: KeyCommand) -> str:
    """Have it do something; what to tell the operator. Raises AdminRequestFailed."""
    if command in _BY:
        # Not what the screen shows: keys come faster than that.
        before = look(remote)["workers_wanted"]
        wanted = before + _BY[command]
        if not 1 <= wanted <= MAX_WORKERS:
            return f"workers: {before} stay, 1 to {MAX_WORKERS} are possible"
        said = remote.post("/workers", {"workers": wanted}, "before", "workers")
        return f"workers: {said['before']} before, {said['workers']} now"
    if command is KeyCommand.REBALANCE:
        shed = remote.post("/rebalance", None, "shed")["shed"]
        told = ", ".join(f"{name} sheds {count}" for name, count in shed.items())
        return told or "no worker has more than its share"
    if command is KeyCommand.ROLL:
        remote.post("/roll", None, "replacing")
        return "every process is being replaced, one at a time"
    seconds = remote.post("/drain", None, "seconds")["seconds"]
    return f"clients are being sent away, within {seconds:g} s"
