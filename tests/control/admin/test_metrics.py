"""The table of all metrics."""

from __future__ import annotations

from dataclasses import replace

from energyws.control.admin.metrics import DEFINITIONS
from energyws.control.children.status import PartitionStatus, Records
from energyws.process.board import COLUMNS, Field, State
from tests.control.admin.scrapes import columns, process, samples, status


def test_every_definition_is_exposed() -> None:
    row = columns(
        STATE=State.READY,
        RING_OLDEST_MS=999_000,
        CERTIFICATE_EXPIRES=2_000_000,
        IO_URING=1,
        SNAPSHOT_STATE=1,
    )
    shown = replace(
        status(process("consumer", row), process("worker-0", row, 0)),
        partitions=[PartitionStatus("energy", 0, 1, 2, 999_000)],
        issuers={"home": 999.0},
        records={"energy": Records()},
    )
    names = {name for name, _ in samples(shown)}
    missing = [each.name for each in DEFINITIONS if not any(n.startswith(each.name) for n in names)]
    assert missing == []


def test_number_of_series_does_not_depend_on_events() -> None:
    quiet = [0] * COLUMNS
    busy = [7] * COLUMNS
    busy[Field.STATE] = quiet[Field.STATE] = State.READY
    for field in (Field.RING_OLDEST_MS, Field.CERTIFICATE_EXPIRES):
        busy[field] = quiet[field] = 999_000
    for field in (Field.IO_URING, Field.SNAPSHOT_STATE):
        busy[field] = quiet[field] = 1
    one, two = (
        samples(status(process("consumer", row), process("worker-0", row, 0)))
        for row in (quiet, busy)
    )
    assert one.keys() == two.keys()
    more = samples(status(*(process(f"worker-{slot}", busy, slot) for slot in range(10))))
    fewer = samples(status(*(process(f"worker-{slot}", busy, slot) for slot in range(9))))
    # docs/metrics.md: about 80 for a worker, some 145 for the rest.
    of_a_worker = len(more) - len(fewer)
    assert 75 < of_a_worker < 90
    assert 135 < len(one) - of_a_worker < 155
