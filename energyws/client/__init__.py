"""The Python client: it reconnects, resumes, and reports the readings that it missed."""

from .client import Client, State
from .failure import Refused
from .messages import Gap, Message, Reading
from .tokens import Token

__all__ = ["Client", "Gap", "Message", "Reading", "Refused", "State", "Token"]
