"""The pytest example in docs/clients.md works as it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parents[2] / "docs" / "clients.md"


@pytest.mark.e2e
@pytest.mark.edge
def test_documented_example_passes(tmp_path: Path) -> None:
    section = CLIENTS.read_text().split("## Test your client\n")[1]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert example is not None
    (tmp_path / "test_example.py").write_text(example[1])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
