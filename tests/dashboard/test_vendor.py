"""The files of others are those that were published."""

from __future__ import annotations

import hashlib
import os

import pytest

from tests.dashboard import published
from tests.dashboard.published import VENDORED, vendored


def test_vendored_files_are_unchanged() -> None:
    said = {each["file"]: each["sha256"] for each in vendored()["files"]}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDORED.iterdir()
        if path.name != "published.json"
    }
    assert found == said


def test_version_is_the_one_that_the_file_says() -> None:
    script = (VENDORED / "uPlot.iife.min.js").read_text()
    assert f"(v{vendored()['version']})" in script.split("\n", 1)[0]


@pytest.mark.skipif(not os.environ.get("CI"), reason="asks the registry")
def test_vendored_files_are_the_published_ones() -> None:
    assert published.main() == 0
