"""The JavaScript client: its unit tests, its types, and its tables compared with Python's."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from typing import Final

from energyws.errors import CLOSES, ERROR_CODES, NORMAL, NOT_FOUND
from energyws.protocol.messages import Unrecovered
from tests.web.agent import ROOT, program

WEB: Final = ROOT / "energyws" / "web"
TESTS: Final = ROOT / "tests" / "web"
_COMPILE: Final = (
    "--noEmit",
    "--strict",
    "--target",
    "es2022",
    "--lib",
    "es2022,dom",
    "--module",
    "node16",
    "--moduleResolution",
    "node16",
)


def run(*command: object) -> str:
    """The output of a command; if the command fails, the test fails with it."""
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=80
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_unit_tests_of_node_pass() -> None:
    output = run(program("node"), "--test", "--test-reporter=tap", TESTS / "energyws.test.mjs")
    passed = re.search(r"^# pass ([0-9]+)$", output, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) > 0, output


def test_types_allow_ordinary_use() -> None:
    run(program("tsc"), *_COMPILE, TESTS / "types.mts")


def test_module_fulfils_its_declarations() -> None:
    run(program("tsc"), *_COMPILE, "--allowJs", "--checkJs", WEB / "energyws.js")


def test_gives_up_on_the_same_closes_as_python() -> None:
    # NORMAL gives no reason not to reconnect.
    closes = {str(close.code): not close.retry and close is not NORMAL for close in CLOSES}
    statuses = {
        str(error.status): error is NOT_FOUND or (error.close is not None and not error.close.retry)
        for error in ERROR_CODES
        if error is NOT_FOUND or error.close is not None
        if error.status
    }
    codes = {"closes": list(map(int, closes)), "statuses": list(map(int, statuses))}
    output = run(program("node"), TESTS / "closes.mjs", json.dumps(codes))
    assert json.loads(output) == {"closes": closes, "statuses": statuses}


def test_declares_every_reason_of_the_service() -> None:
    declared = re.search(r"GapReason =([^;]+);", (WEB / "energyws.d.ts").read_text())
    assert declared is not None
    assert set(re.findall(r"'(\w+)'", declared[1])) == {r.value for r in Unrecovered} | {"LAGGED"}


def test_ships_with_the_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "energyws.web" in setup["options"]["packages"].split()
    shipped = {
        path.name
        for pattern in setup["options.package_data"]["energyws.web"].split(",")
        for path in WEB.glob(pattern.strip())
    }
    # All of the npm package, so that its directory can be installed with npm.
    listed = json.loads((WEB / "package.json").read_text())["files"]
    assert shipped == {*listed, "package.json", "README.md", "LICENSE"}
