"""Autobahn's fuzzing client, `wstest`, in an environment of its own: it needs Python 2.7."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import orjson

from bench.kit.build import cache

HERE: Final = Path(__file__).parent
# The last one that makes environments for Python 2.7.
_VIRTUALENV: Final = "virtualenv==20.15.1"
# Without a cache: for Python 2.7's pip it may be in the current directory.
_INSTALL: Final = (
    *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
    "--no-cache-dir",
)


class NoPython2(Exception):
    """There is no Python 2.7 on this machine."""


def program() -> Path:
    """The path of wstest, which is installed first if necessary; raises NoPython2."""
    made = cache() / "autobahn-25.10.1"
    if not (made / "bin" / "wstest").exists():
        python2 = _python2()
        shutil.rmtree(made, ignore_errors=True)
        tools = cache() / "autobahn-tools"
        _run(sys.executable, "-m", "venv", "--clear", tools)
        _run(tools / "bin" / "python", *_INSTALL, _VIRTUALENV)
        _run(tools / "bin" / "virtualenv", "--quiet", "--no-periodic-update", "-p", python2, made)
        # Python 2.7's pip warns of its age, whatever it is asked.
        requirements = str(HERE / "requirements.txt")
        _run(made / "bin" / "python", "-W", "ignore", *_INSTALL, "-r", requirements)
    return made / "bin" / "wstest"


def run(url: str, cases: list[str], directory: Path) -> dict[str, dict[str, Any]]:
    """What Autobahn says of the server at `url`, by case."""
    specification = {
        "outdir": str(directory),
        "servers": [{"agent": "energyws", "url": url, "protocols": ["energyws"]}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    path = directory / "specification.json"
    path.write_bytes(orjson.dumps(specification))
    with (directory / "wstest.log").open("wb") as log:
        # Its exit status is 0 even if it could not connect.
        subprocess.run(
            [program(), "-m", "fuzzingclient", "-s", path],
            check=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    found: dict[str, dict[str, Any]] = orjson.loads((directory / "index.json").read_bytes())[
        "energyws"
    ]
    return found


def _python2() -> str:
    candidates = [shutil.which("python2.7")]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True)
        versions = Path(root.stdout.strip(), "versions")
        candidates += [str(each) for each in sorted(versions.glob("2.7.*/bin/python2.7"))]
    for each in candidates:
        # A shim of pyenv is there also where no 2.7 is chosen.
        if each and subprocess.run([each, "-c", ""], capture_output=True).returncode == 0:
            return each
    raise NoPython2


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)
