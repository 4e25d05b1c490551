"""Whether children could use these settings: tried here, before any of them is given them.

A process of its own, as `nginx -t` is one: what checks secrets and what reads Kafka is in the
children only, and would nearly double the supervisor's memory. The verdict goes to standard output,
as JSON: a list of what is at fault and why (energyws.errors.Faulty), empty if all is well.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator

import orjson

from energyws.auth.verifier import Verifier
from energyws.errors import BootError, FaultKind
from energyws.settings import Settings
from workers.consumer.librdkafka import live_settings, open_consumer
from workers.runtime import read_settings


def faults(settings: Settings) -> Iterator[tuple[FaultKind, str]]:
    """What is at fault, and why; no broker is waited for."""
    trials: tuple[tuple[FaultKind, Callable[[], object]], ...] = (
        ("secret", lambda: Verifier(settings.auth)),
        ("configuration", lambda: open_consumer(live_settings(settings.kafka)).close()),
    )
    for faulty, attempt in trials:
        try:
            attempt()
        except BootError as error:
            yield faulty, str(error)


if __name__ == "__main__":
    # The verdict is all that it says; a traceback is not logged, but printed.
    logging.disable()
    parser = argparse.ArgumentParser(description="Started by the supervisor, not by hand.")
    parser.add_argument("--settings-fd", type=int, required=True)
    found = list(faults(read_settings(parser.parse_args().settings_fd)))
    sys.stdout.write(orjson.dumps(found).decode())
