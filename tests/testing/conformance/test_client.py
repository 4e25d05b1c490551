"""Commands as clients: `energyws tail`, and wrong ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from energyws.testing.conformance import client
from energyws.testing.conformance.client import judge
from energyws.testing.conformance.table import client_cases
from tests.web.agent import ROOT, program

CASES = {case.id: case for case in client_cases()}
TAIL = [sys.executable, "-m", "energyws.cli", "tail"]


def wrong(behaviour: str) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("client.py")), behaviour]


@pytest.mark.parametrize(
    "id_",
    ["CLIENT-OPEN-3", "CLIENT-TEXT-1", "CLIENT-BUSY-1", "CLIENT-RECONNECT-1", "CLIENT-MINT-3"],
)
def test_tail_passes(id_: str) -> None:
    result = judge(CASES[id_], TAIL, has_function=False, has_keys=False, seconds=30)
    assert (result.verdict, result.detail) == ("ok", "")


@pytest.mark.parametrize(
    "id_", ["CLIENT-OPEN-3", "CLIENT-FUNCTION-2", "CLIENT-RENEW-1", "CLIENT-KEYS-2"]
)
def test_javascript_passes(id_: str) -> None:
    command = [program("node"), "--experimental-websocket", str(ROOT / "tests/web/command.mjs")]
    result = judge(CASES[id_], command, has_function=True, has_keys=True, seconds=30)
    assert (result.verdict, result.detail) == ("ok", "")


def test_simple_client_passes_what_needs_one_connection() -> None:
    result = judge(
        CASES["CLIENT-OPEN-1"], wrong("good"), has_function=False, has_keys=False, seconds=30
    )
    assert (result.verdict, result.detail) == ("ok", "")


def test_case_for_tokens_from_a_function_is_skipped_without_one() -> None:
    result = judge(
        CASES["CLIENT-RENEW-1"], wrong("leaves"), has_function=False, has_keys=False, seconds=30
    )
    assert result.verdict == "skip"


def test_case_for_keys_is_skipped_for_a_client_without_them() -> None:
    result = judge(
        CASES["CLIENT-KEYS-1"], wrong("leaves"), has_function=True, has_keys=False, seconds=30
    )
    assert result.verdict == "skip"


@pytest.mark.parametrize(
    ("behaviour", "id_", "seconds", "detail"),
    [
        ("twice", "CLIENT-OPEN-2", 30, "wanted the readings [1, 99], got [1, 1, 99"),
        ("leaves", "CLIENT-OPEN-1", 30, "wanted the readings [99], got []"),
        ("leaves", "CLIENT-TEXT-1", 30, "gave up with status 0"),
        ("silent", "CLIENT-FINAL-2", 2, "did not give up within 2 s; it said: nothing to say"),
    ],
)
def test_wrong_client_fails(
    monkeypatch: pytest.MonkeyPatch, behaviour: str, id_: str, seconds: float, detail: str
) -> None:
    monkeypatch.setattr(client, "END_SECONDS", 0.2)
    result = judge(
        CASES[id_], wrong(behaviour), has_function=False, has_keys=False, seconds=seconds
    )
    assert result.verdict == "FAIL"
    assert result.detail.startswith(detail)
