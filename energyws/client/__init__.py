"""The Python client: it reconnects, resumes, and reports what it could not get back."""

from energyws.client.client import Client, Refused, State, Token
from energyws.client.messages import Gap, Message, Reading

__all__ = ["Client", "Gap", "Message", "Reading", "Refused", "State", "Token"]
