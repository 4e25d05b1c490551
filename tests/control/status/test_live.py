"""The live view in a terminal of its own, on the real service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from energyws.testing import SECRET, Records, Service, eventually
from energyws.version import installed
from tests.terminals import HOME, LEAVE, ROOT, Terminal

TOKEN = "what-operators-know"


Open = Callable[..., Terminal]


@pytest.fixture
def top(serve: Callable[..., Service]) -> Iterator[Open]:
    """Opens a terminal on a service."""
    opened: list[Terminal] = []

    def start(service: Service, width: int = 80, height: int = 24) -> Terminal:
        opened.append(Terminal(["top", *asking(service)], width, height))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


def asking(service: Service) -> list[str]:
    config = f"--config={service.config_path}"
    return [config, f"--admin=http://127.0.0.1:{service.admin_port}"]


@pytest.mark.e2e
def test_keys_scale_rebalance_and_quit(
    serve: Callable[..., Service], top: Open, records: Records
) -> None:
    service = serve(server={"workers": 1}, admin={"token": TOKEN}).ready()
    records.send(30)
    terminal = top(service)
    lines = terminal.shows("workers 1 of 1 ready")
    assert len(lines) == 24
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"energyws {installed()} at 127.0.0.1:{service.admin_port}  ready"
    terminal.shows("energy/2")
    terminal.shows("history 30 frames")
    # Two keys in one write: neither is lost.
    terminal.type("++")
    terminal.shows("workers: 2 before, 3 now")
    terminal.shows("workers 3 of 3 ready")
    terminal.shows("worker-2")
    terminal.shows("INFO child started child=worker-2")
    terminal.type("b")
    terminal.shows("no worker has more than its share")
    terminal.type("---")
    terminal.shows("workers: 1 stay, 1 to 64 are possible")
    eventually(lambda: set(service.children()) == {"consumer", "worker-0"}, "one worker")
    terminal.type("q")
    assert terminal.ended() == 0
    assert TOKEN not in terminal.output + " ".join(psutil.Process().cmdline())


@pytest.mark.e2e
def test_roll_and_drain_are_confirmed_and_the_view_outlives_the_service(
    serve: Callable[..., Service], top: Open
) -> None:
    service = serve(server={"workers": 1}).ready()
    terminal = top(service)
    terminal.shows("workers 1 of 1 ready")
    terminal.type("r")
    terminal.shows("Replace the consumer and every worker, one at a time? y/n")
    terminal.type("y")
    terminal.shows("every process is being replaced, one at a time")
    service.wait_logged("child replaced", "child=worker-0")
    terminal.type("d")
    terminal.shows("Close every connection and end the service? y/n")
    terminal.type("n")
    eventually(lambda: not any("y/n" in line for line in terminal.lines()), "no question")
    # Keys typed before the question is visible do not answer it.
    terminal.type("dy")
    terminal.shows("Close every connection and end the service? y/n")
    assert service.logged("draining") == []
    terminal.type("y")
    service.wait_logged("draining", 'trigger="POST /drain"')
    assert service.wait() == 0
    lines = terminal.shows("trying again")
    assert any(line.startswith("cannot connect to 127.0.0.1:") for line in terminal.lines())
    # The last view is still shown.
    assert any(line.startswith("process ") for line in lines)
    terminal.type("q")
    assert terminal.ended() == 0


@pytest.mark.e2e
def test_every_way_out_restores_the_terminal(serve: Callable[..., Service], top: Open) -> None:
    service = serve(server={"workers": 1}).ready()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        terminal = top(service)
        terminal.shows("workers 1 of 1")
        assert not terminal.restored
        terminal.process.send_signal(number)
        assert terminal.ended() == 128 + number
    terminal = top(service)
    terminal.shows("workers 1 of 1")
    terminal.vanish()
    assert terminal.process.wait(30) == 128 + signal.SIGHUP


@pytest.mark.e2e
def test_suspended_view_restores_the_terminal_meanwhile(
    serve: Callable[..., Service], top: Open
) -> None:
    terminal = top(serve(server={"workers": 1}).ready())
    terminal.shows("workers 1 of 1")
    terminal.process.send_signal(signal.SIGTSTP)
    suspended = psutil.Process(terminal.process.pid)
    eventually(lambda: suspended.status() == psutil.STATUS_STOPPED, "suspended")
    assert terminal.restored
    eventually(lambda: LEAVE in terminal.output, "the screen is restored")
    terminal.process.send_signal(signal.SIGCONT)
    eventually(lambda: not terminal.restored, "the view again")
    terminal.type("q")
    assert terminal.ended() == 0


@pytest.mark.e2e
def test_missing_token_is_reported_and_the_view_continues(
    serve: Callable[..., Service], top: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_OF_OPERATORS", TOKEN)
    service = serve(server={"workers": 1}).ready()
    monkeypatch.delenv("TOKEN_OF_OPERATORS")
    terminal = top(service, 240)
    terminal.shows("workers 1 of 1")
    # The service has the variable, and demands the token; who looks does not have it.
    service.config["admin"]["token"] = "$(TOKEN_OF_OPERATORS)"
    service.write_config()
    service.signal(signal.SIGHUP)
    terminal.shows("the environment variable TOKEN_OF_OPERATORS is not set")
    service.config["admin"]["token"] = TOKEN
    service.write_config()
    terminal.hides("the environment variable TOKEN_OF_OPERATORS is not set")
    terminal.type("b")
    terminal.shows("no worker has more than its share")
    terminal.type("q")
    assert terminal.ended() == 0


@pytest.mark.e2e
def test_screen_follows_the_size_of_the_terminal(serve: Callable[..., Service], top: Open) -> None:
    terminal = top(serve(server={"workers": 1}).ready())
    assert len(terminal.shows("workers 1 of 1")) == 24
    terminal.resize(160, 50)
    terminal.process.send_signal(signal.SIGWINCH)
    lines = terminal.shows("frames/s")
    assert len(lines) == 50
    assert 80 < max(map(len, lines)) <= 160


def run(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    config: dict[str, Any] = {
        "kafka": {"brokers": "127.0.0.1:1", "topic": "t"},
        "auth": {"jwt_secret": SECRET},
        "admin": {"token": TOKEN},
    }
    path = directory / "config.yaml"
    path.write_text(json.dumps(config))
    return subprocess.run(
        [sys.executable, "-m", "energyws.cli", "top", f"--config={path}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )


def test_output_without_a_terminal_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "energyws: energyws top needs a terminal; for scripts there is: energyws status --json\n"
    )


def test_without_a_service_there_is_an_error_and_no_screen(tmp_path: Path) -> None:
    run(tmp_path)
    arguments = [f"--config={tmp_path / 'config.yaml'}", "--admin=http://127.0.0.1:1"]
    terminal = Terminal(["top", *arguments])
    try:
        assert terminal.process.wait(30) == 1
        eventually(lambda: "cannot connect to 127.0.0.1:1" in terminal.output, "the reason")
        assert HOME not in terminal.output
        assert TOKEN not in terminal.output
    finally:
        terminal.close()
