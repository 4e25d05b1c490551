"""The Python client: it reconnects, resumes, and reports the readings that it missed."""

from .client import Client, State
from .failure import Refused
from .messages import Gap, Message, Reading, Removed, Snapshot
from .request import Keys
from .tokens import Token

__all__ = [
    "Client",
    "Gap",
    "Keys",
    "Message",
    "Reading",
    "Refused",
    "Removed",
    "Snapshot",
    "State",
    "Token",
]
