"""The pytest example in docs/clients.md works as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.snippets import snippet


@pytest.mark.e2e
@pytest.mark.edge
def test_documented_example_passes(tmp_path: Path) -> None:
    (tmp_path / "test_example.py").write_text(snippet(test_documented_example_passes))
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
