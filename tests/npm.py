"""Packages from npm, installed once per checkout into `.node`."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.web.agent import ROOT, program

CACHE: Final = ROOT / ".node"
INSTALL_SECONDS: Final = 240


def installed(package: str) -> Path:
    """The directory in which this `name@version`, and what it needs, can be required."""
    npm = program("npm")
    directory = CACHE / package.strip("@").replace("/", "-")
    CACHE.mkdir(exist_ok=True)
    # Tests of other processes wait for the one that installs.
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            part = directory.with_name(f"{directory.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            subprocess.run(
                [npm, "install", "--no-audit", "--no-fund", f"--prefix={part}", package],
                check=True,
                capture_output=True,
                timeout=INSTALL_SECONDS,
            )
            part.rename(directory)
    return directory
