"""Entry point: the supervisor runs `python -m workers.consumer`."""

from workers.consumer.process import consume
from workers.runtime import run

run(consume)
