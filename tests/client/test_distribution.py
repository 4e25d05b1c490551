"""The distribution energyws-client, as somebody without this repository gets it."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from energyws.client import Client
from energyws.testing import Records, Service, token
from tests.test_docs import table

ROOT: Final = Path(__file__).parents[2]
CODE: Final = ROOT / "energyws" / "client"
# Modules that Windows lacks, and those of the service, which the client must do without.
ABSENT: Final = (
    *("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty", "pty"),
    *("uvloop", "picows", "aiofastnet", "multidict", "energyws", "workers"),
)
READ: Final = """
# Imported first: both import modules of this system.
import asyncio, shutil
import json, os, sys
sys.modules.update(dict.fromkeys(json.loads(os.environ["ABSENT"])))
sys.platform = "win32"
from energyws_client import Client, Reading

async def main():
    async with Client(sys.argv[1], token=os.environ["WS_TOKEN"], last=3) as client:
        found = [await anext(messages) for messages in [aiter(client)] for _ in range(3)]
        print(json.dumps(sorted(each.data["n"] for each in found if isinstance(each, Reading))))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of client/ that its links still fit, since building leaves files behind."""
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "client", copy / "client", symlinks=True)
    shutil.copytree(CODE, copy / "energyws" / "client", ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(ROOT / "LICENSE", copy)
    return copy / "client"


@pytest.fixture(scope="module")
def sdist(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(project, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(project, "wheel", tmp_path_factory.mktemp("wheel"))


def build(project: Path, kind: str, target: Path) -> Path:
    """What the build backend makes, as pip and build call it."""
    program = f"import sys; from setuptools.build_meta import *; build_{kind}(sys.argv[1])"
    run([sys.executable, "-c", program, str(target)], cwd=project)
    (made,) = target.iterdir()
    return made


def run(command: list[str], **options: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of the package in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("energyws_client/")]
        return {name.removeprefix("energyws_client/"): archive.read(name) for name in names}


def test_wheel_has_the_code_that_the_service_installs(wheel: Path) -> None:
    assert contents(wheel) == {
        path.name: path.read_bytes() for path in CODE.iterdir() if path.is_file()
    }


def test_wheel_from_the_sdist_is_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert not [each.name for each in archive if each.issym() or each.islnk()]
        archive.extractall(tmp_path, filter="data")
    (project,) = tmp_path.iterdir()
    (target := tmp_path / "wheel").mkdir()
    assert contents(build(project, "wheel", target)) == contents(wheel)


def test_readme_has_every_argument_of_the_client() -> None:
    found: list[str] = []
    for first, *_ in table((ROOT / "client" / "README.md").read_text(), "stands in their place."):
        found += re.findall(r"`(\w+)`", first)
    assert found == [*inspect.signature(Client).parameters][1:]


@pytest.mark.e2e
@pytest.mark.edge
def test_wheel_alone_receives_readings(
    serve: Callable[..., Service], records: Records, wheel: Path, tmp_path: Path
) -> None:
    service = serve().ready()
    records.send(3)
    service.caught_up(records)
    venv.create(tmp_path / "clean")
    python = str(tmp_path / "clean" / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run([*pip, "install", "--quiet", str(wheel)])
    done = subprocess.run(
        [python, "-W", "error", "-c", READ, service.url],
        env={**os.environ, "WS_TOKEN": token(), "ABSENT": json.dumps(ABSENT), "PYTHONPATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[0, 1, 2]\n", "")
