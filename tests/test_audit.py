"""What the audit says of the answers of the databases."""

from __future__ import annotations

from typing import Any

from tests.audit import verdict

SOUND = {"name": "picows", "version": "2.3.1", "vulns": []}
SKIPPED = {"name": "uvloop", "skip_reason": "Dependency not found"}
WRONG = {
    "name": "pyjwt",
    "version": "2.9",
    "vulns": [
        {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.13", "3"]},
        {"id": "PYSEC-2", "fix_versions": []},
    ],
}


def report(*dependencies: Any) -> Any:
    return {"dependencies": list(dependencies)}


def test_nothing_known() -> None:
    assert verdict([report(SOUND, SKIPPED)]) == (
        0,
        ["1 of 2 packages looked up, 0 vulnerabilities known"],
    )


def test_every_vulnerability_is_named() -> None:
    assert verdict([report(SOUND, WRONG)]) == (
        1,
        [
            "pyjwt 2.9: PYSEC-1, CVE-2026-1; fixed in 2.13, 3",
            "pyjwt 2.9: PYSEC-2; fixed in none yet",
            "2 of 2 packages looked up, 2 vulnerabilities known",
        ],
    )


def test_next_database_is_asked_if_one_does_not_answer() -> None:
    # pip-audit takes a database that it cannot reach for one that knows no package.
    for silent in (None, report(SKIPPED, SKIPPED), report()):
        assert verdict([silent, report(WRONG)])[0] == 1
        status, lines = verdict([silent, silent])
        assert status == 0
        assert lines == ["not audited: no database of advisories can be reached from here"]
