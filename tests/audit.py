"""Looks for published vulnerabilities of what the image installs: `make audit`.

Ends with status 1 for each one that is known. Where no database of advisories can be reached, it
says so and ends with status 0: a change is not wrong because of that.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
LOCK: Final = ROOT / "requirements.lock"
# Those of pip-audit. The second one knows the same and more, so either will do.
DATABASES: Final = ("osv", "pypi")
SECONDS: Final = 120

Report = dict[str, Any]


def looked_up(report: Report) -> list[Report]:
    """The packages that the database knows.

    pip-audit skips those that it cannot find, and so all of them if it cannot ask.
    """
    return [each for each in report["dependencies"] if "skip_reason" not in each]


def findings(report: Report) -> Iterator[str]:
    """A line for each known vulnerability."""
    for package in looked_up(report):
        for each in package["vulns"]:
            names = ", ".join([each["id"], *each.get("aliases", [])])
            fixed = ", ".join(each["fix_versions"]) or "none yet"
            yield f"{package['name']} {package['version']}: {names}; fixed in {fixed}"


def verdict(reports: Iterable[Report | None]) -> tuple[int, list[str]]:
    """The exit status and what to print. reports: of each database; None: it gave no answer."""
    for report in reports:
        if report is None or not (known := looked_up(report)):
            continue
        found = list(findings(report))
        asked = f"{len(known)} of {len(report['dependencies'])} packages looked up"
        return bool(found), [*found, f"{asked}, {len(found)} vulnerabilities known"]
    return 0, ["not audited: no database of advisories can be reached from here"]


def ask(database: str) -> Report | None:
    """What a database knows of the lock file."""
    command = ["pip-audit", f"--requirement={LOCK}", "--disable-pip", "--require-hashes"]
    options = [f"--vulnerability-service={database}", "--format=json", "--progress-spinner=off"]
    program = Path(sys.executable).with_name(command[0])
    try:
        done = subprocess.run(
            [program, *command[1:], *options], capture_output=True, timeout=SECONDS, text=True
        )
        report: Report = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    return report


def main() -> int:
    """Print the verdict; the exit status."""
    status, lines = verdict(map(ask, DATABASES))
    print(*lines, sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
