"""The `energyws` command, as a shell runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
# The variables of the example file, and the one that names the file.
_CONFIGURATION: Final = ("JWT_SECRET", "ADMIN_TOKEN", "CONFIG_PATH")


def energyws(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one verb to its end, without the caller's configuration."""
    inherited = {key: value for key, value in os.environ.items() if key not in _CONFIGURATION}
    return subprocess.run(
        [sys.executable, "-m", "energyws.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        check=False,
    )
