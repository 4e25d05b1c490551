"""Measurements and tests do not depend on each other; they share energyws.testing."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# It uses the report's charts to draw its picture.
DRAWS = ROOT / "tests" / "deploy" / "screenshot.py"
# The model of a worker's edge uses the connection in memory on which streams are fuzzed.
MODELS = ROOT / "tests" / "workers" / "websocket" / "edge.py"


def importing(directory: str, package: str) -> set[Path]:
    pattern = re.compile(rf"^\s*(?:from|import) {package}\b", re.MULTILINE)
    return {path for path in (ROOT / directory).rglob("*.py") if pattern.search(path.read_text())}


def test_measurements_import_no_tests() -> None:
    assert importing("bench", "tests") == set()


def test_only_tests_of_measurements_import_them() -> None:
    own = set((ROOT / "tests" / "bench").rglob("*.py"))
    assert importing("tests", "bench") - own == {DRAWS, MODELS}
