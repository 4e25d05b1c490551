"""Requests of operators to the running service; each function raises AdminRequestFailed."""

from __future__ import annotations

from energyws.control.admin.client import AdminClient
from energyws.control.status.keys import KeyCommand
from energyws.control.status.model import Document
from energyws.settings import MAX_WORKERS


def look(admin: AdminClient) -> Document:
    """The document of GET /status."""
    document = admin.get("/status")
    if not isinstance(document, dict) or "processes" not in document:
        raise admin.stranger()
    return document


def carry_out(admin: AdminClient, command: KeyCommand) -> str:
    """Have the service carry out a command; the outcome, for the operator."""
    match command:
        case KeyCommand.REBALANCE:
            return rebalance(admin)
        case KeyCommand.ROLL:
            return roll(admin)
        case KeyCommand.DRAIN:
            return drain(admin)
    # Not the number on the screen: keys come faster than the screen changes.
    before = look(admin)["workers_wanted"]
    wanted = before + (1 if command is KeyCommand.MORE else -1)
    if not 1 <= wanted <= MAX_WORKERS:
        return f"workers: {before} stay, 1 to {MAX_WORKERS} are possible"
    return scale(admin, wanted)


def scale(admin: AdminClient, workers: int) -> str:
    """Have it use that many workers."""
    answer = admin.post("/workers", {"workers": workers}, "before", "workers")
    return f"workers: {answer['before']} before, {answer['workers']} now"


def rebalance(admin: AdminClient) -> str:
    """Have workers with more than their share of the connections shed some."""
    shed = admin.post("/rebalance", None, "shed")["shed"]
    parts = [f"{name} sheds {count} clients" for name, count in shed.items()]
    return ", ".join(parts) or "no worker has more than its share"


def roll(admin: AdminClient) -> str:
    """Have it replace every process."""
    admin.post("/roll", None, "replacing")
    return "every process is being replaced, one at a time; the log shows the progress"


def drain(admin: AdminClient) -> str:
    """Have it drain and end."""
    seconds = admin.post("/drain", None, "seconds")["seconds"]
    return f"closing all connections within {seconds:g} s; then the service ends"
