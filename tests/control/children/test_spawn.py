"""A started child gets descriptors for everything that no other user may read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from energyws.control.children import stacks
from energyws.control.children.spawn import (
    PREFLIGHT_COMMAND,
    ChildSpec,
    Spawner,
    module_command,
    sealed_file,
)
from energyws.process.board import Board, Field
from energyws.settings import Admin, Auth, Kafka, Settings
from energyws.settings_json import loads

SECRET: Final = "s" * 40
SETTINGS: Final = Settings(kafka=Kafka(brokers="b", topic="t"), auth=Auth(jwt_secret=SECRET))
ADMIN_TOKEN: Final = "the-word-of-an-operator"
# A child that uses all its descriptors, and writes what it read into the file REPORT.
SCRIPT: Final = """
import json, os, socket, sys
given = dict(each.lstrip("-").partition("=")[::2] for each in sys.argv[2:])
settings = os.pread(int(given["settings-fd"]), 1 << 20, 0).decode()
os.pwrite(int(given["board-fd"]), (42).to_bytes(8, "little"), 8 * int(sys.argv[1]))
os.write(int(given["stacks-fd"]), b"where it was")
control = socket.socket(fileno=int(given["control-fd"]))
message = control.recv(100).decode()
end = control.recv(100).decode()
with open(os.environ["REPORT"], "w") as file:
    json.dump({"given": given, "settings": settings, "message": message, "end": end,
               "brokers": os.environ["BROKERS"]}, file)
"""


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create()
    yield made
    made.close()


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REPORT", str(tmp_path / "report"))
    return tmp_path / "report"


def environment(settings: Settings) -> dict[str, str]:
    """This process's own, and what the settings are known for."""
    return {**os.environ, "BROKERS": settings.kafka.brokers}


def spawn(board: Board, report: Path, spec: ChildSpec) -> dict[str, Any]:
    """Start a child, send it one message and close the socket; the child's report."""
    command = [sys.executable, "-c", SCRIPT, str(int(Field.BEAT))]
    settings = replace(SETTINGS, admin=Admin(token=ADMIN_TOKEN))
    spawner = Spawner(
        settings, board.descriptor, Path("/run/bus"), lambda spec: command, environment
    )
    process, control, stacks_fd = spawner.start(spec)
    try:
        control.send(b"hello")
        control.close()
        assert process.wait(20) == 0
        assert stacks.read(stacks_fd) == "where it was"
    finally:
        process.kill()
        process.wait()
        os.close(stacks_fd)
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def test_consumer_gets_settings_board_and_messages(board: Board, report: Path) -> None:
    found = spawn(board, report, ChildSpec("consumer", 3, None, None, successor=True))
    assert loads(found["settings"].encode()) == SETTINGS
    assert ADMIN_TOKEN not in str(found)
    assert (found["message"], found["end"]) == ("hello", "")
    assert board.row(0)[Field.BEAT] == 42
    given = found["given"]
    assert {"slot", "listen-fd"} & given.keys() == set()
    assert (given["name"], given["row"], given["bus"]) == ("consumer", "3", "/run/bus")
    assert given["parent"] == str(os.getpid())
    assert "successor" in given
    assert SECRET not in str(given)
    assert found["brokers"] == SETTINGS.kafka.brokers


def test_worker_gets_its_socket_as_well(board: Board, report: Path) -> None:
    with socket.socket() as listening:
        spec = ChildSpec("worker-2", 0, 2, listening.fileno())
        given = spawn(board, report, spec)["given"]
    assert (given["slot"], given["listen-fd"]) == ("2", str(spec.listen_fd))
    assert "successor" not in given


def test_missing_program_leaves_no_descriptor(board: Board) -> None:
    before = set(os.listdir("/proc/self/fd"))
    spawner = Spawner(
        SETTINGS, board.descriptor, Path("/"), lambda spec: ["/no/such/program"], environment
    )
    with pytest.raises(FileNotFoundError):
        spawner.start(ChildSpec("consumer", 0, None, None))
    assert set(os.listdir("/proc/self/fd")) == before


def test_module_of_a_child() -> None:
    assert module_command(ChildSpec("consumer", 0, None, None))[-1] == "workers.consumer"
    assert module_command(ChildSpec("worker-0", 0, 0, 5))[-1] == "workers.websocket"


@pytest.mark.parametrize("name", ["workers", "jwt"])
def test_modules_in_the_working_directory_do_not_count(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("import os\nos._exit(99)\n")
    specs = (ChildSpec("consumer", 0, None, None), ChildSpec("worker-0", 0, 0, 5))
    for command in (*map(module_command, specs), PREFLIGHT_COMMAND):
        # Without its arguments, it says so.
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert ended.returncode not in (0, 99), ended.stderr


def test_sealed_file_cannot_be_changed() -> None:
    descriptor = sealed_file(b"secret")
    try:
        assert os.pread(descriptor, 100, 0) == b"secret"
        for change in (
            lambda: os.pwrite(descriptor, b"x", 0),
            lambda: os.ftruncate(descriptor, 0),
            lambda: os.ftruncate(descriptor, 100),
        ):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(descriptor)
