"""A Status as a scrape shows it."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text_format

from energyws.control.admin.exposition import exposition
from energyws.control.children.status import Ended, ProcessStatus, Status, Usage
from energyws.process.board import COLUMNS, Field, State

USAGE = Usage(cpu_seconds=1.5, resident_bytes=1000, open_files=10, max_files=100)


def columns(**values: int) -> list[int]:
    row = [0] * COLUMNS
    for name, value in values.items():
        row[Field[name]] = value
    return row


def process(name: str, row: Sequence[int], slot: int | None = None) -> ProcessStatus:
    return ProcessStatus(name, slot, 1, 0, 5.0, USAGE, row)


def status(*processes: ProcessStatus, ended: dict[str, Ended] | None = None) -> Status:
    return Status(
        wall=1000.0,
        version="1.2.3",
        reasons=[],
        draining=False,
        workers_wanted=2,
        max_connections=500,
        supervisor=USAGE,
        supervisor_columns=columns(RELOADS=3, RELOADS_REFUSED=1),
        processes=processes,
        ended=ended or {},
        starts={each.name: 1 for each in processes},
        exits={},
        partitions=[],
        events=[],
    )


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(shown: Status, accept: str = "application/openmetrics-text;version=1.0.0") -> Samples:
    content_type, data = exposition(shown, accept)
    parse = openmetrics if "openmetrics" in content_type else text_format
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(data.decode())
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def worker(name: str = "worker-0", **values: int) -> ProcessStatus:
    return process(name, columns(STATE=State.READY, **values), int(name[-1]))
