"""Exit statuses in words."""

from __future__ import annotations

import pytest

from energyws.control.policy.actions import describe


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "with exit code 0 (ok)"),
        (3, "with exit code 3 (boot)"),
        (77, "with exit code 77"),
        (-15, "killed by SIGTERM"),
        (-9, "killed by SIGKILL (out of memory?)"),
        (-99, "killed by signal 99"),
    ],
)
def test_exit_status_in_words(status: int, words: str) -> None:
    assert describe(status) == words


def test_sigkill_from_the_supervisor_does_not_suggest_a_shortage() -> None:
    assert describe(-9, ours=True) == "killed by SIGKILL"
