"""The text of `energyws status`."""

from __future__ import annotations

from dataclasses import replace

from energyws.control.status.summary import WIDTH, summary
from tests.control.documents import sample_view


def test_first_line_shows_whether_the_service_is_ready() -> None:
    view = sample_view()
    assert summary(view).splitlines()[0] == "energyws 1.2.3: ready"
    view = replace(view, ready=False, reasons=["draining", "no worker is ready"])
    line = "energyws 1.2.3: not ready: draining; no worker is ready"
    assert summary(view).splitlines()[0] == line


def test_summary_is_plain_text_within_its_width() -> None:
    lines = summary(sample_view(64, 512)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert not any(line != line.rstrip() for line in lines)
    assert sum(line.startswith("worker-") for line in lines) == 64
    assert sum(line.startswith("energy/") for line in lines) == 512
    assert "\x1b" not in "\n".join(lines)


def test_summary_without_partitions_has_no_table_of_them() -> None:
    assert "partition" not in summary(sample_view(partitions=0))


def test_long_name_of_a_stream_is_not_cut() -> None:
    view = sample_view(partitions=1)
    (partition,) = view.partitions
    long = replace(view, partitions=[replace(partition, stream="x" * 64)])
    assert f"\n{'x' * 64}/0 " in summary(long)


def test_summary_says_whether_workers_use_io_uring() -> None:
    assert "\nio_uring in use\n" in summary(sample_view())


def test_many_streams_are_cut_from_the_line_of_the_newest_records() -> None:
    view = sample_view(partitions=20)
    many = [replace(each, stream=f"stream-{each.partition}") for each in view.partitions]
    (line,) = [
        each
        for each in summary(replace(view, partitions=many)).splitlines()
        if each.startswith("newest record ")
    ]
    assert line.endswith(" …")
    assert len(line) <= WIDTH
