"""The demo in a terminal of its own, as its user sees it."""

from __future__ import annotations

import os
import pty
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from energyws.demo.screen.live import is_possible
from energyws.testing import eventually
from tests.cli.command import energyws
from tests.terminals import LEAVE, Terminal

pytestmark = [pytest.mark.e2e, pytest.mark.edge]
Open = Callable[..., Terminal]
COUNTED = re.compile(r"received ([\d,]+) readings · (\d+) lost, (\d+) repeated")


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Open]:
    """Opens a terminal with a demo in it; whatever happens, no process of it is left."""
    opened: list[Terminal] = []

    def start(*arguments: str, width: int = 100, height: int = 30, **environment: str) -> Terminal:
        places = {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        arguments = ("demo", "--port=0", "--clients=4", *arguments)
        opened.append(Terminal([*arguments], width, height, **{**places, **environment}))
        return opened[-1]

    tmp_path.chmod(0o700)
    yield start
    for terminal in opened:
        terminal.close()


def family(terminal: Terminal) -> list[psutil.Process]:
    found = psutil.Process(terminal.process.pid).children(recursive=True)
    assert len(found) >= 5
    return found


def nothing_is_left(tmp_path: Path, processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    assert [path for path in tmp_path.iterdir() if path.name.startswith("energyws")] == []


def counted(lines: list[str]) -> tuple[int, int, int]:
    (found,) = [match for line in lines if (match := COUNTED.match(line))]
    received, lost, repeated = (int(text.replace(",", "")) for text in found.groups())
    return received, lost, repeated


def test_killed_worker_loses_nothing(demo: Open, tmp_path: Path) -> None:
    terminal = demo()
    terminal.shows(" W  ")
    terminal.shows("clients 4 of 4 live")
    # Another terminal, without arguments.
    looked = energyws("status", cwd=tmp_path, XDG_RUNTIME_DIR=str(tmp_path))
    assert (looked.returncode, looked.stderr) == (0, "")
    assert "workers 2 of 2 ready" in looked.stdout

    terminal.type("?")
    terminal.shows("What runs here")
    terminal.type("u")
    terminal.shows("--host 0.0.0.0")
    terminal.type("u")
    workers = {line.split()[1] for line in terminal.shows("received") if line[:7] == "worker-"}
    terminal.type("p")
    lines = terminal.shows(" lost of ")
    now = {line.split()[1] for line in lines if line[:7] == "worker-"}
    assert len(workers & now) == 1
    lines = terminal.shows("clients 4 of 4 live")
    received, lost, repeated = counted(lines)
    assert received > 0
    assert (lost, repeated) == (0, 0)

    terminal.resize(40, 15)
    terminal.process.send_signal(signal.SIGWINCH)
    eventually(lambda: len(terminal.lines()) == 15, "a small screen")
    assert max(map(len, terminal.lines())) <= 40

    processes = family(terminal)
    terminal.type("q")
    assert terminal.ended() == 0
    last = terminal.output.rsplit(LEAVE, 1)[1]
    assert "0 lost, 0 repeated; workers killed: 1" in last
    nothing_is_left(tmp_path, processes)


@pytest.mark.parametrize(
    ("end", "code"), [("ctrl-c", 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_terminal_is_restored_however_it_ends(
    end: str | signal.Signals, code: int, demo: Open, tmp_path: Path
) -> None:
    terminal = demo(NO_COLOR="1")
    terminal.shows(" W  ")
    # No colour, neither of the text nor behind it.
    assert re.search(r"\x1b\[(\d+;)*[34]\d[;m]", terminal.output) is None
    processes = family(terminal)
    if isinstance(end, str):
        terminal.type("\x03")
    else:
        terminal.process.send_signal(end)
    assert terminal.ended() == code
    nothing_is_left(tmp_path, processes)


def test_failed_part_ends_the_demo_and_its_log_is_kept(demo: Open, tmp_path: Path) -> None:
    terminal = demo()
    terminal.shows(" W  ")
    processes = family(terminal)
    (simulator,) = [each for each in processes if "energyws.demo.simulator" in each.cmdline()]
    simulator.kill()
    assert terminal.ended() == 1
    last = terminal.output.rsplit(LEAVE, 1)[1]
    assert "energyws: the simulator of the meters has ended with status -9" in last
    (log,) = tmp_path.glob("energyws-demo-*/*")
    assert f"the log of this demo: {log}" in last
    assert "listening" in log.read_text()
    log.unlink()
    log.parent.rmdir()
    nothing_is_left(tmp_path, processes)


def test_suspended_demo_gives_the_terminal_back(demo: Open) -> None:
    terminal = demo()
    terminal.shows(" W  ")
    process = psutil.Process(terminal.process.pid)
    process.send_signal(signal.SIGTSTP)
    eventually(lambda: process.status() == psutil.STATUS_STOPPED, "the demo has stopped")
    assert terminal.restored
    eventually(lambda: terminal.output.count(LEAVE) == 1, "the screen is left")
    process.send_signal(signal.SIGCONT)
    before = len(terminal.output)
    eventually(lambda: "lost" in terminal.output[before:], "the screen is back")
    terminal.type("q")
    assert terminal.ended() == 0


@pytest.mark.parametrize(
    ("piped", "environment", "possible"),
    [
        (False, {}, True),
        (False, {"NO_COLOR": "1"}, True),
        (False, {"CI": "true"}, False),
        (False, {"TERM": "dumb"}, False),
        (True, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_screen_needs_a_terminal_and_somebody_at_it(
    piped: bool, environment: dict[str, str], possible: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CI", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **environment}.items():
        monkeypatch.setenv(name, value)
    master, slave = pty.openpty()
    read, write = os.pipe()
    with open(slave) as keys, open(write if piped else os.dup(slave), "w") as output:
        monkeypatch.setattr("sys.stdin", keys)
        monkeypatch.setattr("sys.stdout", output)
        assert is_possible(Console()) is possible
    for descriptor in {master, read, write} - ({write} if piped else set()):
        os.close(descriptor)


@pytest.mark.parametrize("arguments", [["--plain"], ["--count=1"]])
def test_lines_where_a_screen_is_not_wanted(
    arguments: list[str], demo: Open, tmp_path: Path
) -> None:
    terminal = demo("--workers=1", *arguments)
    eventually(lambda: " W  " in terminal.output, "a reading")
    assert "\x1b[" not in terminal.output
    assert re.search(r"the page, with its token: http://127\.0\.0\.1:\d+/#token=", terminal.output)
    if arguments != ["--count=1"]:
        os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.process.wait(30) == 0
    assert terminal.restored
    nothing_is_left(tmp_path, [])
