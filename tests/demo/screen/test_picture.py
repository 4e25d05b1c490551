"""The demo's screen in terminals of several sizes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from energyws.demo.screen.kills import Kill
from energyws.demo.screen.model import DemoView, MeterView
from energyws.demo.screen.picture import KEYS, Overlay, Picture, screen
from tests.demo.screen.test_links import links
from tests.demo.screen.test_model import service, worker

SIZES = [(80, 24), (160, 50), (100, 30), (60, 12), (40, 15), (40, 6), (10, 1)]
OVER = Kill(
    *("12:00:00", "worker-1", 471, 10.0),
    lost_at={1: 10.1},
    pauses={1: 0.4},
    successor=(500, 0.7),
    received=12_345,
)


def view(meters: int = 3, workers: int = 2, kills: int = 0) -> DemoView:
    return DemoView(
        meters=[MeterView(f"METER{n:03}", 500.0 + n, [1.0, None, 2.0] * 80) for n in range(meters)],
        clients=20,
        live=20,
        reconnects=11,
        delays=(0.0042, 0.012),
        received=12_345,
        lost=0,
        repeated=0,
        service=service(*(worker(f"worker-{n}", 100 + n, 10) for n in reversed(range(workers)))),
        kills=[OVER] * kills,
        up_seconds=83.0,
    )


def shown(picture: Picture, width: int, height: int, *, colour: bool = False) -> list[str]:
    file = io.StringIO()
    console = Console(
        width=width,
        height=height,
        color_system="truecolor" if colour else None,
        force_terminal=colour,
        file=file,
    )
    console.print(screen(picture, width, height))
    return [line.rstrip() for line in file.getvalue().removesuffix("\n").split("\n")]


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    found = links(tmp_path, token_file=Path("/run/energyws-demo/token"))
    return Picture(view(), found, "/run/energyws-demo/demo.log")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlay", [None, "help", "links"])
@pytest.mark.parametrize("many", [False, True])
def test_screen_has_the_size_of_the_terminal(
    size: tuple[int, int], overlay: Overlay | None, many: bool, picture: Picture
) -> None:
    of = view(50, 64, 50) if many else view()
    lines = shown(replace(picture, view=of, overlay=overlay), *size)
    assert len(lines) == size[1]
    assert max(len(line) for line in lines) <= size[0]
    assert lines[-1].startswith("p kill")


@pytest.mark.parametrize("size", [(100, 30), (160, 50)])
def test_screen_has_the_figures(size: tuple[int, int], picture: Picture) -> None:
    lines = shown(replace(picture, view=view(kills=1)), *size)
    assert lines[0] == "energyws demo  ready  1 m 23 s"
    assert lines[1] == "page   http://127.0.0.1:8080/  click it, or press u"
    command = [line[7:] for line in lines if line[:5] in ("wscat", "tail ", "top  ", "     ")]
    for line in (*picture.links.wscat, *picture.links.tail, picture.links.top):
        assert line in command
    assert "log    /run/energyws-demo/demo.log" in lines
    (row,) = [line for line in lines if line.startswith("METER002")]
    assert row.split()[:3] == ["METER002", "502", "W"]
    assert "▁ █" in row
    (row,) = [line for line in lines if line.startswith("worker-1")]
    assert row.split() == ["worker-1", "101", "ready", "10", "10%", "0"]
    assert "clients 20 of 20 live, 11 reconnected · delay p50 / p99 4.2 ms / 12 ms" in lines
    assert "received 12,345 readings · 0 lost, 0 repeated" in lines
    story = " ".join(lines[next(n for n, line in enumerate(lines) if line[:8] == "12:00:00") :])
    assert "its client resumed within 0.4 s" in story
    assert lines[-1] == KEYS


def test_workers_keep_their_places(picture: Picture) -> None:
    lines = shown(replace(picture, view=view(workers=11)), 160, 50)
    names = [line.split()[0] for line in lines if line.startswith("worker-")]
    assert names == [f"worker-{number}" for number in range(11)]


def test_small_terminal_has_what_matters_most(picture: Picture) -> None:
    lines = shown(replace(picture, view=view(kills=3)), 40, 15)
    text = "\n".join(lines)
    assert "http://127.0.0.1:8080/" in text
    assert "12,345 readings · 0 lost, 0 repeated" in lines
    assert "METER002" in text
    assert "worker-1" in text
    assert "0 lost of 12,345" in " ".join(text.split())
    # A command that is cut could not be copied.
    assert "wscat" not in text


def test_many_meters_and_workers_leave_room_for_each_other(picture: Picture) -> None:
    lines = shown(replace(picture, view=view(50, 64, 9)), 80, 24)
    assert any(line.endswith("more meters") for line in lines)
    assert any(line.endswith("more workers") for line in lines)
    assert "0 lost of 12,345" in " ".join(" ".join(lines).split())


def test_losses_and_missing_clients_are_loud(picture: Picture) -> None:
    bad = replace(view(), lost=1, live=19)
    for of, styles in (
        (view(), ("\x1b[1;32m0 lost", "\x1b[32m20 of")),
        (bad, ("\x1b[1;31m1 lost", "\x1b[1;33m19 of")),
    ):
        text = "\n".join(shown(replace(picture, view=of), 100, 30, colour=True))
        for style in styles:
            assert style in text


def test_link_opens_the_page_with_the_token(picture: Picture) -> None:
    text = "\n".join(shown(picture, 100, 30, colour=True))
    assert f";{picture.links.page_with_token}\x1b\\" in text
    # Only as the link's target.
    assert "#token" not in "\n".join(shown(picture, 100, 30))


def test_start_is_shown(picture: Picture) -> None:
    nothing = DemoView([], 20, 0, 0, None, 0, 0, 0, None, [], 0.0)
    picture = replace(picture, view=nothing, remarks=["port 8080 is taken"], outcome="no worker")
    text = "\n".join(shown(picture, 80, 24))
    for part in ("starting", "waiting for a reading", "port 8080 is taken", "no worker"):
        assert part in text
