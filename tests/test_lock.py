"""requirements.lock has what the image installs: all of it, within the bounds, with hashes."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parent.parent
LOCK: Final = (ROOT / "requirements.lock").read_text()
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
DIGEST: Final = "sha256:" + "0123456789abcdef" * 4


def locked() -> dict[str, Requirement]:
    """The requirements of the lock file by name; each has exactly one version."""
    found = {}
    for block in re.split(r"\n(?=[a-z0-9])", re.sub(r"(?m)^ *#.*\n?", "", LOCK).strip()):
        text, *hashes = re.split(r"\s*\\\n\s+", block)
        assert hashes, text
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), text
        requirement = Requirement(text)
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), text
        found[canonicalize_name(requirement.name)] = requirement
    return found


def wanted() -> list[Requirement]:
    """What setup.cfg and the build need."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"].splitlines()
    lines += setup["options.extras_require"]["schemas"].splitlines()
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    return [Requirement(line) for line in [*lines, *build] if line and not line.startswith("#")]


def version(requirement: Requirement) -> str:
    return str(requirement.specifier).removeprefix("==")


def test_every_requirement_is_locked_within_its_bounds() -> None:
    found = locked()
    for each in wanted():
        assert each.specifier.contains(version(found[canonicalize_name(each.name)])), (
            f"{each}: run `make lock`"
        )


def test_what_they_need_in_turn_is_locked() -> None:
    found = locked()
    waiting = [(each.name, extra) for each in wanted() for extra in (*each.extras, "")]
    seen = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        assert canonicalize_name(name) in found, f"{name}: run `make lock`"
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(needed.name, each) for each in (*needed.extras, "")]
    assert {canonicalize_name(name) for name, _ in seen} <= found.keys()


def test_lock_names_no_host_and_no_path() -> None:
    assert "://" not in LOCK
    assert not re.search(r"(?m)(^|\s|=)/", LOCK)
    assert "--index-url" not in LOCK


def test_image_installs_nothing_that_is_not_locked() -> None:
    installs = [each.strip() for each in re.findall(r"pip install ([^\n\\]*)", DOCKERFILE)]
    assert installs == [
        "--no-cache-dir --require-hashes --requirement requirements.lock",
        "--no-cache-dir --no-deps --no-build-isolation .",
    ]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "!requirements.lock" in ignored
    assert re.search(r"(?m)^COPY .*\brequirements\.lock\b", DOCKERFILE)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory to run `make pin-base` in, and a docker that knows one digest."""
    for name in ("Makefile", "Dockerfile"):
        shutil.copy(ROOT / name, tmp_path / name)
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\ncat {tmp_path}/digest || exit 1\n')
    docker.chmod(0o755)
    (tmp_path / "digest").write_text(f"{DIGEST}\n")
    return tmp_path


def pin(checkout: Path) -> subprocess.CompletedProcess[str]:
    path = f"{checkout / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["make", "--silent", "pin-base"],
        cwd=checkout,
        env={**os.environ, "PATH": path, "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
    )


def test_base_image_is_pinned_by_its_digest(checkout: Path) -> None:
    (tag,) = re.findall(r"(?m)^ARG BASE=([^@\n]*)", DOCKERFILE)
    for _ in range(2):
        done = pin(checkout)
        assert (done.returncode, done.stdout) == (0, f"ARG BASE={tag}@{DIGEST}\n")
    pinned = (checkout / "Dockerfile").read_text()
    assert pinned == re.sub(r"(?m)^(ARG BASE=).*", rf"\g<1>{tag}@{DIGEST}", DOCKERFILE)
    # By the tag, also where it was pinned before.
    assert set(re.findall(r"inspect (\S+)", (checkout / "asked").read_text())) == {tag}


@pytest.mark.parametrize("answer", ["", "error: no such image", "sha256:short"])
def test_without_a_digest_nothing_is_pinned(checkout: Path, answer: str) -> None:
    (checkout / "digest").write_text(answer)
    done = pin(checkout)
    assert done.returncode != 0
    assert "no digest" in done.stderr
    assert (checkout / "Dockerfile").read_text() == DOCKERFILE
