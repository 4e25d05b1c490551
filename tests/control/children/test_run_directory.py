from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from energyws.control.children import run_directory
from energyws.control.children.run_directory import BELOW_BYTES, MAX_PATH_BYTES, RunDirectory
from energyws.errors import BootError
from energyws.testing import Service

# The longest directory that leaves enough for the paths of the bus.
ENOUGH = MAX_PATH_BYTES - BELOW_BYTES - len("/energyws-12345678")
_HOLD = (
    "import sys; from pathlib import Path;"
    "from energyws.control.children.run_directory import RunDirectory;"
    "print(RunDirectory(Path(sys.argv[1])).path, flush=True); sys.stdin.read()"
)


def test_directory_is_private_and_removed_at_the_end(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert directory.path.stat().st_mode & 0o777 == 0o700
    (directory.path / "frames").touch()
    directory.close()
    assert list(tmp_path.iterdir()) == []


def test_directory_of_a_killed_service_is_removed_and_that_of_a_running_one_is_not(
    tmp_path: Path,
) -> None:
    held = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        held.append((process, Path(process.stdout.readline().strip())))
    (killed, left), (living, used) = held
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    mine = RunDirectory(tmp_path)
    try:
        assert not left.exists()
        assert used.is_dir()
    finally:
        mine.close()
        living.kill()
        for process, _ in held:
            process.communicate()


def test_directories_without_a_lock_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "energyws-theirs").mkdir()
    RunDirectory(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["energyws-theirs"]


@pytest.mark.parametrize("make", ["link", "pipe", "stranger", "open to all"])
def test_lock_of_a_stranger_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str
) -> None:
    base, precious = tmp_path / "base", tmp_path / "precious"
    (base / "energyws-theirs").mkdir(parents=True)
    precious.write_text("data")
    precious.chmod(0o600)
    lock = base / "energyws-theirs.lock"
    match make:
        case "link":
            lock.symlink_to(precious)
        case "pipe":
            os.mkfifo(lock, 0o600)
        case "stranger":
            lock.touch(0o600)
            monkeypatch.setattr(run_directory.os, "geteuid", lambda: os.getuid() + 1)
        case "open to all":
            lock.touch()
            lock.chmod(0o666)
    RunDirectory(base).close()
    assert (base / "energyws-theirs").is_dir()
    assert os.path.lexists(lock)
    assert precious.read_text() == "data"


def test_directory_of_a_stranger_is_passed_over(
    short: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    monkeypatch.setattr(run_directory, "_TRUSTED", (os.getuid() + 1,))
    with pytest.raises(BootError, match="set XDG_RUNTIME_DIR to one that belongs to the service's"):
        RunDirectory()
    assert list(short.iterdir()) == []
    assert "directory of another user is not used for sockets" in caplog.text


def test_directory_that_a_stranger_makes_first_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_directory.fcntl, "flock", lambda *_: theirs(tmp_path))

    def theirs(base: Path) -> None:
        (lock,) = base.glob("energyws-*.lock")
        lock.with_suffix("").mkdir()

    with pytest.raises(BootError, match=r"File exists: set XDG_RUNTIME_DIR to a directory of your"):
        RunDirectory(tmp_path)
    (left,) = tmp_path.iterdir()
    assert left.is_dir()


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short path; pytest's may be long."""
    with tempfile.TemporaryDirectory(prefix="e", dir="/tmp") as name:
        yield Path(name)


def directory_of(length: int, short: Path) -> Path:
    """A directory whose path has `length` bytes, some of them in characters of two bytes."""
    left = length - len(str(short)) - 1
    path = short / ("é" * (left // 2) + "x" * (left % 2))
    path.mkdir()
    return path


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "TMPDIR"])
def test_directory_whose_path_is_too_long_for_sockets_is_skipped(
    short: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setattr(run_directory.tempfile, "tempdir", None)
    # A directory that does not exist is skipped as well.
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short / "absent"))
    fits = directory_of(ENOUGH, short)
    monkeypatch.setenv(variable, str(fits))
    directory = RunDirectory()
    assert directory.path.parent == fits
    directory.close()
    long = directory_of(ENOUGH + 1, short)
    monkeypatch.setenv(variable, str(long))
    directory = RunDirectory()
    assert directory.path.parent != long
    assert list(long.iterdir()) == []
    directory.close()


def test_longest_directory_has_room_for_the_sockets(short: Path) -> None:
    directory = RunDirectory(directory_of(ENOUGH, short))
    # As workers/bus/rendezvous.py names them, with the longest process id of Linux.
    place = directory.path / "consumer-4194304"
    place.mkdir()
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        socket.bind(f"ipc://{place}/frames")
        with pytest.raises(zmq.ZMQError, match="longer than 107 characters"):
            socket.bind(f"ipc://{place}/frames+")
    directory.close()


def test_without_any_directory_the_error_names_the_remedy(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_directory, "_OTHERS", ())
    monkeypatch.setattr(run_directory.tempfile, "tempdir", None)
    long = directory_of(ENOUGH + 1, short)
    for variable in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(long))
    with pytest.raises(BootError, match=f"set XDG_RUNTIME_DIR to .* at most {ENOUGH} bytes"):
        RunDirectory()
    with pytest.raises(BootError, match=r"cannot write in .*: No such file or directory"):
        RunDirectory(short / "absent")


@pytest.mark.e2e
def test_service_runs_where_every_usual_directory_is_too_long(
    serve: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 110)
    long.mkdir()
    for variable in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(long))
    service = serve().ready()
    assert service.stop() == 0
    assert "Traceback" not in "\n".join(service.lines)
