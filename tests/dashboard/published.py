"""Files as npm published them, and whether the vendored ones are the same.

    python -m tests.dashboard.published

fetches the package that energyws/dashboard/vendor names and compares every file.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.web.agent import ROOT, program

VENDORED: Final = ROOT / "energyws" / "dashboard" / "vendor" / "uplot"
# Of the checkout, and in no package.
_CACHE: Final = ROOT / ".node"


def package(name: str, version: str, integrity: str) -> dict[str, bytes]:
    """The files of a published package by path; raises ValueError if it is not that package.

    integrity: as registries and lock files have it, `sha512-…`.
    """
    cached = _CACHE / f"{name}-{version}.tgz"
    if not cached.exists():
        npm = program("npm")
        _CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as directory:
            subprocess.run(
                [npm, "pack", "--silent", f"{name}@{version}"],
                cwd=directory,
                check=True,
                capture_output=True,
                timeout=60,
            )
            (made,) = Path(directory).iterdir()
            # Two test processes may be here at once.
            made.replace(cached)
    content = cached.read_bytes()
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if integrity != f"sha512-{found}":
        cached.unlink()
        raise ValueError(f"{name} {version} has the integrity sha512-{found}, not {integrity}")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        return {name.removeprefix("package/"): file.read() for name, file in files.items() if file}


def vendored() -> dict[str, Any]:
    """What the vendored files are said to be."""
    said: dict[str, Any] = json.loads((VENDORED / "published.json").read_text())
    return said


def main() -> int:
    said = vendored()
    published = package(said["name"], said["version"], said["integrity"])
    differ = [
        each["file"]
        for each in said["files"]
        if published[each["from"]] != (VENDORED / each["file"]).read_bytes()
    ]
    for name in differ:
        print(f"{name} is not the file of {said['name']} {said['version']}")
    if not differ:
        print(f"{len(said['files'])} files are those of {said['name']} {said['version']}")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
