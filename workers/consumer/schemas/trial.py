"""Asks the registry once, to find out early what would keep records from being read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Literal

from energyws.errors import BootError, FaultKind
from energyws.schemas.answers import Missing, Unavailable, path_of_version
from energyws.schemas.values import BadSchema
from energyws.settings import Settings
from workers.consumer.schemas.loading import KINDS, check_installed
from workers.consumer.schemas.registry import Registry

# All of it must fit into the time of the preflight. A question may take four times as long, and
# none is begun later.
_MOST_SECONDS: Final = 3.0


def trial(settings: Settings) -> Iterator[tuple[FaultKind | Literal["warning"], str]]:
    """What is wrong; a warning, where it may right itself. It does not need any schema to exist."""
    asked = {
        name: stream
        for name, stream in settings.streams.items()
        if stream.format in ("avro", "protobuf")
    }
    settings_of_registry = settings.schema_registry
    timeout = min(_MOST_SECONDS, settings_of_registry.timeout_seconds)
    try:
        check_installed(settings)
        registry = Registry(replace(settings_of_registry, timeout_seconds=timeout))
    except BootError as error:
        yield "configuration", str(error)
        return
    deadline = time.monotonic() + _MOST_SECONDS
    for name, stream in asked.items():
        if time.monotonic() > deadline:
            yield "warning", "schema_registry.url: it answers slowly: not asked for all streams"
            return
        subject = f"{stream.topic}-value"
        try:
            kind = registry.document(path_of_version(subject, "latest")).kind
        except (Missing, BadSchema):
            # Nothing has been written yet, or the subjects have names of another kind. A schema
            # that cannot be used concerns its records only.
            continue
        except Unavailable as unavailable:
            fault: FaultKind | Literal["warning"] = (
                "configuration" if unavailable.misconfigured else "warning"
            )
            yield fault, f"schema_registry.url: cannot be used: {unavailable}"
            return
        if kind != KINDS[stream.format]:
            yield (
                "configuration",
                f"streams.{name}.format: {stream.format}, but the registry's {subject} is {kind}",
            )
