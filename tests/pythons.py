"""Runs the fast tests, and the demo once, with every supported Python that this machine has.

    python -m tests.pythons

`make test-pythons` runs it. The Python of .venv is skipped, since `make test` uses it. The others
are looked for on PATH and among pyenv's, and get an environment each in .venv/pythons. The fast
tests are those of the packages that setup.cfg's import rules call pure, of the configuration, and
of the client, which is for every Python since 3.11, and of the command line, since argparse differs
between versions. It ends with status 1 when any test fails, and prints which Pythons are absent.
"""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
ENVIRONMENTS: Final = ROOT / ".venv" / "pythons"
PURE_CONTRACTS: Final = ("importlinter:contract:pure", "importlinter:contract:policy")
COMMAND_LINE: Final = [
    f"tests/cli/test_{name}.py" for name in ("command", "completion", "mistakes")
]
# Versions side by side: nothing of them waits, and a small machine has two cores.
AT_ONCE: Final = 2
# Of the extra `dev`, what no fast test imports: it takes longer to install than they take.
LEFT_OUT: Final = re.compile(
    r"(build|import-linter|mypy|playwright|readme-renderer|ruff|twine|types-\w+)\b"
)
_END_TO_END: Final = re.compile(r"^pytestmark = .*\be2e\b", re.MULTILINE)
_BOUNDS: Final = re.compile(r">=3\.(\d+),<3\.(\d+)")


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def supported() -> range:
    """The supported minor versions of Python 3, from python_requires."""
    bounds = _BOUNDS.fullmatch(setup()["options"]["python_requires"])
    assert bounds is not None
    return range(int(bounds[1]), int(bounds[2]))


def fast_tests() -> list[str]:
    packages = [
        Path("tests", *package.split(".")[1:])
        for contract in PURE_CONTRACTS
        for package in setup()[contract]["source_modules"].split()
    ]
    files: list[Path] = []
    for path in (*packages, Path("tests", "control", "config"), Path("tests", "client")):
        files += sorted(ROOT.joinpath(path).glob("test_*.py"))
        files += [file for file in [ROOT / path.with_name(f"test_{path.name}.py")] if file.exists()]
    fast = [file for file in files if not _END_TO_END.search(file.read_text())]
    return [str(file.relative_to(ROOT)) for file in fast] + COMMAND_LINE


def tools() -> list[str]:
    """What the fast tests need besides the package, as pip takes it."""
    extras = setup()["options.extras_require"]
    requirements = [*extras["dev"].split(), *extras["schemas"].split()]
    return [each for each in requirements if not LEFT_OUT.match(each)]


def interpreter(minor: int) -> str | None:
    """A Python of this version that can make an environment."""
    check = f"import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, {minor}))"
    for candidate in _candidates(minor):
        # pyenv has shims for versions that are not installed, too.
        done = subprocess.run([candidate, "-c", check], capture_output=True, check=False)
        if done.returncode == 0:
            return candidate
    return None


def _candidates(minor: int) -> Iterator[str]:
    if on_path := shutil.which(f"python3.{minor}"):
        yield on_path
    for found in sorted((Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/python3")):
        yield str(found)


def environment(minor: int, python: str) -> str:
    """The interpreter of an environment with the dependencies of the current setup.cfg."""
    directory = ENVIRONMENTS / f"3.{minor}"
    inside, stamp = directory / "bin" / "python", directory / ".made"
    if not stamp.exists() or stamp.stat().st_mtime < (ROOT / "setup.cfg").stat().st_mtime:
        subprocess.run([python, "-m", "venv", "--clear", str(directory)], check=True)
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        subprocess.run([str(inside), *pip, *tools(), "--editable", "."], cwd=ROOT, check=True)
        stamp.touch()
    return str(inside)


def environments() -> Iterator[tuple[int, str]]:
    """Each other version with its interpreter; prints what is left out."""
    for minor in supported():
        if minor == sys.version_info[1]:
            print(f"Python 3.{minor}: the Python of .venv, which `make test` uses", flush=True)
        elif (python := interpreter(minor)) is None:
            print(f"Python 3.{minor}: none on this machine, not tested", flush=True)
        else:
            yield minor, environment(minor, python)


def check(minor: int, inside: str) -> tuple[bool, str]:
    """Whether the tests pass with this interpreter, and what to print about them."""
    passed, lines = True, [f"Python 3.{minor}: {inside}"]
    for command in (
        ["pytest", "-q", "-p", "no:cacheprovider", *fast_tests()],
        ["energyws.cli", "demo", "--port=0", "--workers=1", "--count=3"],
    ):
        done = _run([inside, "-m", *command])
        passed = passed and done.returncode == 0
        lines.append(done.stdout if done.returncode else done.stdout.splitlines()[-1])
    return passed, "\n".join(lines)


def main() -> int:
    # One after the other: to install the package, each writes into this directory.
    made = list(environments())
    failed = False
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for passed, text in pool.map(lambda each: check(*each), made):
            print(text, flush=True)
            failed = failed or not passed
    return int(failed)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
