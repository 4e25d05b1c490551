"""The page's modules that need no document, in Node."""

from __future__ import annotations

import re
import subprocess

from tests.web.agent import ROOT, program


def test_unit_tests_of_node_pass() -> None:
    done = subprocess.run(
        [program("node"), "--test", "--test-reporter=tap", ROOT / "tests/dashboard/page.test.mjs"],
        capture_output=True,
        text=True,
        timeout=80,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^# pass ([0-9]+)$", done.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) > 0, done.stdout
