"""The npm package, as somebody without this repository gets it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from energyws.auth.verifier import mint
from energyws.testing import Records, Service, token
from tests.docs.snippets import snippet
from tests.web.agent import ROOT, program

WEB: Final = ROOT / "energyws" / "web"
TESTS: Final = ROOT / "tests" / "web"
# React, TypeScript and so on, and npm's cache; `make clean` removes it.
SHARED: Final = ROOT / ".node" / "clients"
FILES: Final = {
    *("LICENSE", "README.md", "package.json"),
    *("energyws.js", "energyws.d.ts", "react.js", "react.d.ts"),
}
_QUIET: Final = ("--no-audit", "--no-fund", "--no-package-lock", "--silent")
_STRICT: Final = (
    *("--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom"),
    *("--jsx", "react-jsx", "--types", "react"),
)


def run(*command: object, cwd: Path) -> str:
    """The output of a command; if the command fails, the test fails with it."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=80
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def npm(*arguments: object, cwd: Path) -> str:
    return run(program("npm"), *arguments, "--cache", SHARED / "cache", cwd=cwd)


@pytest.fixture(scope="module")
def tools() -> Path:
    """The directory with the programs of tests/web/package.json."""
    wanted = (TESTS / "package.json").read_text()
    stamp = SHARED / "installed.json"
    if not stamp.exists() or stamp.read_text() != wanted:
        SHARED.mkdir(parents=True, exist_ok=True)
        shutil.copy(TESTS / "package.json", SHARED)
        npm("install", *_QUIET, cwd=SHARED)
        stamp.write_text(wanted)
    return SHARED / "node_modules" / ".bin"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("packed")
    (made,) = json.loads(npm("pack", "--json", "--pack-destination", target, cwd=WEB))
    assert {each["path"] for each in made["files"]} == FILES
    return target / str(made["filename"])


@pytest.fixture
def project(packed: Path, tools: Path) -> Iterator[Path]:
    """An empty project with the package; it is below the tools, where Node finds React."""
    made = SHARED / f"project-{os.getpid()}"
    made.mkdir()
    try:
        (made / "package.json").write_text('{"private":true,"type":"module"}')
        npm("install", *_QUIET, "--offline", "--legacy-peer-deps", packed, cwd=made)
        yield made
    finally:
        shutil.rmtree(made)


@pytest.mark.parametrize("module", ["node16", "esnext"])
def test_types_allow_ordinary_use_and_the_hook_fulfils_them(
    project: Path, tools: Path, module: str
) -> None:
    documented = snippet(test_types_allow_ordinary_use_and_the_hook_fulfils_them)
    (project / "documented.tsx").write_text(documented)
    for path in (*WEB.glob("*.js"), *WEB.glob("*.d.ts"), TESTS / "react_types.tsx"):
        shutil.copy(path, project)
    sources = ("documented.tsx", "react_types.tsx", "react.js")
    resolution = "bundler" if module == "esnext" else module
    options = [*_STRICT, "--module", module, "--moduleResolution", resolution]
    run(tools / "tsc", *options, "--allowJs", "--checkJs", *sources, cwd=project)


def test_package_is_as_bundlers_and_node_expect(packed: Path, tools: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(packed, tmp_path)
    run(tools / "publint", "--strict", "--pack", "false", tmp_path / "package", cwd=tmp_path)


def test_package_has_the_licence_of_the_repository() -> None:
    assert (WEB / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_directive_for_server_components_is_the_first_line() -> None:
    assert re.match(r"'use client';\n", (WEB / "react.js").read_text())


@pytest.mark.e2e
@pytest.mark.edge
def test_hook_renders_the_readings_of_a_service(
    project: Path, serve: Callable[..., Service], records: Records
) -> None:
    service = serve().ready()
    records.send(3)
    service.caught_up(records)
    shutil.copy(TESTS / "react.mjs", project)
    forged = mint("another-secret-of-more-than-32-bytes", "intruder", 60, time.time())
    process = subprocess.Popen(
        [
            *(program("node"), "--experimental-websocket", "--no-warnings"),
            *("react.mjs", service.url, token(), forged),
        ],
        cwd=project,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def step(name: str) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        found: dict[str, Any] = json.loads(line or "{}")
        assert found.pop("step", None) == name
        return found

    try:
        assert step("server") == {"html": '<p id="server">idle 0</p>', "opened": 0}
        replay = step("replay")
        assert (replay["opened"], replay["same"]) == (1, True)
        assert sorted(replay["numbers"]) == [0, 1, 2]
        records.send(2_000)
        process.stdin.write("\n")
        process.stdin.flush()
        live = step("live")
        assert (live["opened"], live["kept"]) == (1, 100)
        # Without the limit, four for each message: two components, twice each in StrictMode.
        assert live["renders"] < 2_003
        assert step("remount") == {"opened": 1, "closed": 0, "text": "live 100 number"}
        assert step("refused") == {"text": "Refused UNAUTHORIZED"}
        assert step("end")["problems"] == []
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
