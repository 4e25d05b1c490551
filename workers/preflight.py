"""Checks whether children could use these settings, before any child gets them.

It is a process of its own, as `nginx -t` is: only children load the code that checks secrets and
reads Kafka, which would nearly double the supervisor's memory. It writes JSON to standard output: a
list of pairs (energyws.errors.FaultKind, text), empty if the settings can be used. In place of the
kind, "warning" is of what may right itself.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Literal

import orjson

from energyws.auth.verifier import Verifier
from energyws.errors import BootError, FaultKind
from energyws.settings import Settings
from workers.consumer.librdkafka import live_settings, open_consumer
from workers.consumer.schemas.trial import trial
from workers.runtime import read_settings


def faults(
    settings: Settings, *, registry: bool = True
) -> Iterator[tuple[FaultKind | Literal["warning"], str]]:
    """What is at fault, and why; does not wait for a broker, but for a schema registry.

    registry: whether to ask that.
    """
    checks: tuple[tuple[FaultKind, Callable[[], object]], ...] = (
        ("secret", lambda: Verifier(settings.auth)),
        ("configuration", lambda: open_consumer(live_settings(settings.kafka)).close()),
    )
    for kind, check in checks:
        try:
            check()
        except BootError as error:
            yield kind, str(error)
    if registry:
        yield from trial(settings)


if __name__ == "__main__":
    # Standard output is for the faults alone; Python prints a traceback to standard error.
    logging.disable()
    parser = argparse.ArgumentParser(description="Started by the supervisor, not by hand.")
    parser.add_argument("--settings-fd", type=int, required=True)
    parser.add_argument("--without-registry", action="store_true")
    given = parser.parse_args()
    found = list(faults(read_settings(given.settings_fd), registry=not given.without_registry))
    sys.stdout.write(orjson.dumps(found).decode())
