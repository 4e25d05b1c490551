from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from energyws.control.rundir import RunDirectory

_HOLD = (
    "import sys; from pathlib import Path; from energyws.control.rundir import RunDirectory;"
    "print(RunDirectory(Path(sys.argv[1])).path, flush=True); sys.stdin.read()"
)


def test_it_is_for_its_owner_only_and_goes_with_it(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert directory.path.stat().st_mode & 0o777 == 0o700
    (directory.path / "frames").touch()
    directory.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_service_left_is_removed_and_a_living_one_is_spared(tmp_path: Path) -> None:
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


def test_directories_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "energyws-theirs").mkdir()
    RunDirectory(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["energyws-theirs"]
