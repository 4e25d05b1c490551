"""The supported Pythons: setup.cfg lists them, and make checks them first."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pythons

ROOT = Path(__file__).parent.parent
# A Python that reports another version.
OTHER = """#!{python}
import sys
assert sys.argv[1] == "-c", sys.argv
sys.version_info = (3, {minor}, 0, "final", 0)
sys.version = "3.{minor}.0 (main)"
exec(sys.argv[2])
"""


def make(directory: Path, minor: int) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "Makefile", directory)
    python = directory / "python"
    python.write_text(OTHER.format(python=sys.executable, minor=minor))
    python.chmod(0o755)
    return subprocess.run(
        ["make", "--silent", ".venv/.made", f"PYTHON={python}"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_classifiers_are_the_supported_versions() -> None:
    prefix = "Programming Language :: Python :: 3."
    classifiers = pythons.setup()["metadata"]["classifiers"].split("\n")
    listed = [int(each.removeprefix(prefix)) for each in classifiers if each.startswith(prefix)]
    assert listed == list(pythons.supported())
    assert sys.version_info[1] in listed


@pytest.mark.parametrize("minor", [10, pythons.supported().stop])
def test_make_refuses_another_python_before_it_installs_anything(
    minor: int, tmp_path: Path
) -> None:
    done = make(tmp_path, minor)
    assert done.returncode == 2
    message, _ = done.stderr.splitlines()
    first, last = pythons.supported()[0], pythons.supported()[-1]
    assert message.startswith(f"energyws needs Python 3.{first} to 3.{last} ")
    assert f"this is 3.{minor}.0" in message
    assert not (tmp_path / ".venv").exists()


def test_make_continues_with_every_supported_python(tmp_path: Path) -> None:
    for minor in pythons.supported():
        # The next step makes an environment, which the fake Python refuses.
        assert "assert sys.argv[1] ==" in make(tmp_path, minor).stderr


def test_fast_tests_are_those_of_the_pure_modules() -> None:
    files = pythons.fast_tests()
    assert {"tests/protocol/test_position.py", "tests/control/policy/test_fleet.py"} < set(files)
    assert "tests/cli/test_main.py" not in files
    assert len(files) > 25
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_tools_of_the_fast_tests_have_their_bounds() -> None:
    found = pythons.tools()
    assert any(re.fullmatch(r"pytest>=\d+,<\d+", each) for each in found)
    assert not any(each.startswith(("mypy", "ruff", "types-")) for each in found)
