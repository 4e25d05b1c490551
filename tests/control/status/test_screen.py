"""The screen in terminals of several sizes."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from energyws.control.status.keys import HELP
from energyws.control.status.model import ServiceView
from energyws.control.status.screen import Picture, screen
from tests.control.documents import sample_view


def shown(picture: Picture, width: int, height: int) -> list[str]:
    file = io.StringIO()
    console = Console(width=width, height=height, color_system=None, file=file)
    console.print(screen(picture, width, height))
    return [line.rstrip() for line in file.getvalue().removesuffix("\n").split("\n")]


def picture(of: ServiceView) -> Picture:
    return Picture(of, "127.0.0.1:8490")


@pytest.mark.parametrize("size", [(80, 24), (160, 50), (60, 12), (40, 6), (10, 1)])
@pytest.mark.parametrize("many", [False, True])
def test_screen_has_the_size_of_the_terminal(size: tuple[int, int], many: bool) -> None:
    of = sample_view(64, 512, 50) if many else sample_view()
    lines = shown(picture(of), *size)
    assert len(lines) == size[1]
    assert max(len(line) for line in lines) <= size[0]
    assert lines[-1].startswith(HELP[: min(size[0] - 1, len(HELP))])


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_screen_has_the_figures(size: tuple[int, int]) -> None:
    lines = shown(picture(sample_view()), *size)
    text = "\n".join(lines)
    assert lines[0] == "energyws 1.2.3 at 127.0.0.1:8490  ready"
    assert "workers 2 of 2 ready · clients 2,468 of 10,000 · lagging 6" in text
    assert "in 50/s · out 122k/s, 134 MiB/s · fan-out p99 2.5 ms" in text
    assert "history 4,096 frames, 1 m 22 s, 4.44 MiB · in workers ≥ 4,096, 1 m 22 s" in text
    assert "newest record 12 s ago" in lines
    (row,) = [line for line in lines if line.startswith("worker-1")]
    assert row.split()[:6] == ["worker-1", "ready", "1,234", "61,000", "50%", "74.0"]
    assert " 1 ms " in row
    assert " 2.5 ms" in row
    (row,) = [line for line in lines if line.startswith("energy/2")]
    assert row.split() == ["energy/2", "7,202", "100", "102", "14", "s", "14", "s"]
    assert any(line.startswith("01:02:03 INFO event-3 with many words") for line in lines)


def test_wide_screen_has_more_columns() -> None:
    narrow, wide = (
        next(line.split() for line in shown(picture(sample_view()), *size) if line[:7] == "process")
        for size in ((80, 24), (160, 50))
    )
    more = ["age", "frames/s", "joined", "bytes/s", "skipped", "fds", "restarts", "up"]
    assert wide == narrow + more


def test_the_worst_rows_stay_when_not_all_fit() -> None:
    of = sample_view(64, 512, 50)
    busy = [
        replace(each, cpu=0.9) if each.name in ("worker-7", "worker-63") else each
        for each in of.processes
    ]
    late = [
        replace(each, lag_records=10_000) if each.partition == 400 else each
        for each in of.partitions
    ]
    lines = shown(picture(replace(of, processes=busy, partitions=late)), 80, 24)
    starts = [line.split(" ")[0] for line in lines]
    assert starts.index("worker-7") < starts.index("worker-63")
    assert "energy/400" in starts
    assert [line for line in lines if line.startswith("…")] == [
        *("… and 62 more", "… and 510 more")
    ]
    assert any("event-49" in line for line in lines)


def test_service_that_does_not_answer_is_reported() -> None:
    away = replace(
        picture(sample_view()),
        failure="nobody answers on 127.0.0.1:8490: refused",
        age_seconds=12.3,
    )
    lines = shown(away, 80, 24)
    assert "no answer for 12 s, trying again" in lines[0]
    assert lines[-2].startswith("nobody answers on 127.0.0.1:8490: refused")


def test_question_replaces_every_other_message() -> None:
    confirming = replace(
        picture(sample_view()), question="End? y/n", failure="nobody answers", outcome="x"
    )
    assert shown(confirming, 80, 24)[-2].strip() == "End? y/n"


def test_service_that_is_not_ready_shows_why() -> None:
    of = replace(sample_view(), ready=False, reasons=["draining", "no worker is ready"])
    line = "not ready: draining; no worker is ready"
    assert shown(picture(of), 80, 24)[0].rstrip().endswith(line)


def test_markup_in_names_is_text() -> None:
    of = sample_view()
    names = [replace(each, name="[red]x[/]") for each in of.processes]
    assert any(
        line.startswith("[red]x[/]")
        for line in shown(picture(replace(of, processes=names)), 80, 24)
    )
