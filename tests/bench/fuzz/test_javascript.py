"""Positions in both clients."""

from __future__ import annotations

import os
import shutil

import pytest

from bench.fuzz.javascript import differences

pytestmark = pytest.mark.skipif(
    not shutil.which("node") and "CI" not in os.environ, reason="needs node"
)

MOST = ".".join(["1"] * 1024)


def test_clients_agree_at_the_limits_of_a_position() -> None:
    texts = [
        *("a-1", "a-2.0", "b-1", "a-1..2", "a-01", "g-1", "", "A-1", f"{'f' * 16}-1"),
        *("a-9223372036854775807", "a-9223372036854775808", "a-99999999999999999999"),
        *(f"a-{MOST}", f"a-{MOST}.1", f"{'f' * 17}-1"),
    ]
    assert differences([(known, text) for known in texts for text in texts]) == {}
