"""The tutorial, step by step, with a real browser."""

from __future__ import annotations

import re
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from energyws.testing import eventually
from tests.docs.browser import opened
from tests.docs.pages import ROOT
from tests.docs.shell import Running, bash, replaced
from tests.docs.snippets import snippets

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

# What a reader sees, twenty times a second.
REPORT = """
<script type="module">
  setInterval(() => fetch('/seen', {method: 'POST', body: JSON.stringify([
    document.getElementById('watts').textContent, document.getElementById('gauge').value,
    document.getElementById('state').textContent,
  ])}), 50);
</script>
"""


def test_tutorial(tmp_path: Path) -> None:
    demo, copy, page, look, roll = (block.text for block in snippets(test_tutorial))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "energyws").symlink_to(ROOT / "energyws")
    # What make runs, with a port that is free.
    demo = replaced(demo, {"make demo": ".venv/bin/energyws demo --port 0"})
    assert "\t@exec $(BIN)/energyws demo\n" in (ROOT / "Makefile").read_text()
    assert bash(copy, tmp_path).returncode == 0
    # A terminal gets each line at once.
    with Running(demo, tmp_path, PYTHONUNBUFFERED="1") as running:
        (line,) = running.lines("?token=")[:1]
        port, token = re.findall(r"ws://127\.0\.0\.1:([0-9]+)/ws/energy\?token=(\S+)", line)[0]
        page = replaced(page, {"ws://127.0.0.1:8080": f"ws://127.0.0.1:{port}"}) + REPORT
        (tmp_path / "gauge" / "index.html").write_text(page)
        served(look, tmp_path)
        with opened(tmp_path / "gauge", "token=wrong") as seen:
            eventually(lambda: seen and "UNAUTHORIZED" in seen[-1][2], "the refusal in words")
        with opened(tmp_path / "gauge", f"token={token}") as seen:
            (line,) = running.lines("--admin http")[:1]
            admin = line.partition("--admin ")[2].split()[0]
            eventually(is_live(seen, 3), "three values of the live gauge")
            before = len(seen)
            rolled = bash(replaced(roll, {"roll": f"roll --admin {admin}"}), tmp_path)
            assert rolled.returncode == 0, rolled.stderr
            eventually(
                lambda: any(state.startswith("waiting") for *_, state in seen[before:]),
                "a page that reconnects",
            )
            eventually(is_live(seen, len(seen) + 2), "values after the roll")


def is_live(seen: list[Any], count: int) -> Callable[[], bool]:
    """Whether that much has been shown, and the last of it is a live value in number and gauge."""

    def live() -> bool:
        if len(seen) < count:
            return False
        watts, gauge, state = seen[-1]
        return watts.isdigit() and float(watts) == gauge and state == "live"

    return live


def served(command: str, directory: Path) -> None:
    """Check that the command serves the page, on a port that is free."""
    command = replaced(command, {"http.server 8000": "http.server 0"})
    with Running(f"exec {command}", directory, PYTHONUNBUFFERED="1") as running:
        (line,) = running.lines("Serving HTTP on 127.0.0.1")
        port = re.findall(r"port ([0-9]+)", line)[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as response:
            assert b"Live power" in response.read()
