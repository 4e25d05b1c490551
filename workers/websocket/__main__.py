"""Starts the process; the supervisor is what runs this."""

from workers.runtime import run
from workers.websocket.process import serve

run(serve)
