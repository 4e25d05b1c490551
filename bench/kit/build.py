"""The C programs of the measurements, compiled on first use."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_FLAGS: Final = ("-O2", "-Wall", "-Wextra")


def cache() -> Path:
    """The directory for build results, outside the source tree."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "energyws-bench")
    path.mkdir(parents=True, exist_ok=True)
    return path


def program(name: str, *libraries: str) -> Path:
    """The program built from <name>.c beside this file, linked with these libraries."""
    source = Path(__file__).with_name(f"{name}.c")
    state = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    made = cache() / f"{name}-{state}"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=cache()) as directory:
            fresh = Path(directory, name)
            linked = [f"-l{library}" for library in libraries]
            subprocess.run(["gcc", *_FLAGS, "-o", str(fresh), str(source), *linked], check=True)
            fresh.rename(made)
    return made
