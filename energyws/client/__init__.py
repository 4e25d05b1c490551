"""The Python client: it reconnects, resumes, and reports the readings that it missed."""

from energyws.client.client import Client, State
from energyws.client.failure import Refused
from energyws.client.messages import Gap, Message, Reading
from energyws.client.tokens import Token

__all__ = ["Client", "Gap", "Message", "Reading", "Refused", "State", "Token"]
