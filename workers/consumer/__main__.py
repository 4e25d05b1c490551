"""Starts the process; the supervisor is what runs this."""

from workers.consumer.process import consume
from workers.runtime import run

run(consume)
