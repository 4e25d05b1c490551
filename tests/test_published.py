"""What is published: built as its maintainer does, installed and used outside of the clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

from energyws.version import installed

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("energyws", "workers")
NOT_THE_TREE: Final = (".*", "__pycache__", "*.egg-info", "build", "dist", "node_modules")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the clone: building leaves files behind."""
    path = tmp_path_factory.mktemp("tree") / "energyws"
    ignored = shutil.ignore_patterns(*NOT_THE_TREE)
    shutil.copytree(ROOT, path, symlinks=True, ignore=ignored)
    return path


def build(tree: Path, output: Path, *options: str) -> None:
    # Without an environment of its own, which would come from an index.
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", output]
    done = subprocess.run([*command, tree], capture_output=True, text=True, timeout=80, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def published(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with an sdist, and the wheel that is built from it."""
    output = tmp_path_factory.mktemp("published")
    build(tree, output)
    return output


@pytest.fixture(scope="module")
def wheel(published: Path) -> Path:
    (path,) = published.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of an environment with the wheel, and with the dependencies of the one of the tests."""
    path = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], timeout=60, check=True)
    (site,) = path.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", path / "bin" / "python"]
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    # The version that is there is the clone's, from the environment of the tests.
    subprocess.run([*pip, "install", *options, "--ignore-installed", wheel], timeout=60, check=True)
    return path / "bin"


def run(
    environment: Path, cwd: Path, *command: str, timeout: float = 60, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment, without a way back to the clone."""
    ours = {"HOME": str(cwd), "PATH": f"{environment}:{os.environ['PATH']}", "NO_COLOR": "1"}
    return subprocess.run(
        [environment / command[0], *command[1:]],
        cwd=cwd,
        env={**ours, **variables},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_pypi_takes_the_service_and_the_client(published: Path, tree: Path, tmp_path: Path) -> None:
    build(tree / "client", tmp_path)
    files = [*published.iterdir(), *tmp_path.iterdir()]
    assert len(files) == 4
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_wheel_from_the_sdist_is_the_one_from_the_tree(
    wheel: Path, tree: Path, tmp_path: Path
) -> None:
    build(tree, tmp_path, "--wheel")
    (direct,) = tmp_path.glob("*.whl")
    assert direct.name == wheel.name
    assert contents(direct) == contents(wheel)


def test_wheel_has_every_file_of_the_packages_and_no_other(wheel: Path, tree: Path) -> None:
    expected = {
        str(file.relative_to(tree))
        for package in PACKAGES
        for file in (tree / package).rglob("*")
        if file.is_file()
    }
    metadata = f"energyws-{installed()}.dist-info/"
    names = contents(wheel).keys()
    assert {name for name in names if not name.startswith(metadata)} == expected
    vendored = {name for name in expected if "/vendor/" in name and name.endswith("/LICENSE")}
    assert vendored
    assert {f"{metadata}licenses/{name}" for name in ("LICENSE", *vendored)} <= names


def test_sdist_has_what_the_wheel_is_made_of(published: Path, tree: Path) -> None:
    (sdist,) = published.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    top = {"LICENSE", "README.md", "CHANGELOG.md", "setup.py", "setup.cfg", "pyproject.toml"}
    assert top <= names
    assert {name.partition("/")[0] for name in names if "/" in name} == {
        *PACKAGES,
        "energyws.egg-info",
    }


def test_image_is_built_from_all_that_the_packages_link_to(tree: Path) -> None:
    copied = [
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    let_through = (ROOT / ".dockerignore").read_text().splitlines()
    assert [source for source in copied if f"!{source}" not in let_through] == []
    links = [each for package in PACKAGES for each in (tree / package).rglob("*")]
    targets = {
        str(each.resolve().relative_to(tree.resolve())) for each in links if each.is_symlink()
    }
    assert targets
    assert targets <= set(copied)


def test_command_runs_outside_of_the_clone(environment: Path, tmp_path: Path) -> None:
    program = "import energyws, workers; print(energyws.__file__, workers.__file__)"
    places = run(environment, tmp_path, "python", "-c", program).stdout.split()
    assert [place for place in places if not place.startswith(str(environment.parent))] == []
    assert len(places) == 2
    done = run(environment, tmp_path, "energyws", "--version")
    assert (done.returncode, done.stdout) == (0, f"{installed()}\n")


def test_example_is_installed_and_valid(environment: Path, tmp_path: Path) -> None:
    done = run(environment, tmp_path, "energyws", "example-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "config" / "config.example.yaml").read_text()
    (tmp_path / "config.yaml").write_text(done.stdout)
    secret = "x" * 32
    check = ("energyws", "check-config", "--config", "config.yaml")
    done = run(environment, tmp_path, *check, JWT_SECRET=secret)
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_is_installed(environment: Path, tmp_path: Path) -> None:
    done = run(environment, tmp_path, "energyws", "completion", "bash")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.rstrip().endswith(" energyws")


def test_demo_of_the_wheel_shows_a_reading(environment: Path, tmp_path: Path) -> None:
    demo = ("energyws", "demo", "--port", "0", "--workers", "1", "--count", "1")
    done = run(environment, tmp_path, *demo, timeout=85)
    assert done.returncode == 0, done.stderr
    assert re.search(r"[0-9] W\b", done.stdout)
