"""The examples of docs/clients.md, with what an application around them has."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from energyws.testing import token
from tests.docs.conftest import Meters
from tests.docs.shell import Running, bash, replaced
from tests.docs.snippets import snippet
from tests.web.agent import ROOT, program

URL = "wss://meters.example/ws/energy"
METER = "735999000000000001"
# The page's own functions, and what a browser has besides.
PAGE = """
const stored = new Map();
globalThis.localStorage = {
  getItem: (name) => stored.get(name) ?? null,
  setItem: (name, text) => { stored.set(name, text); console.log('stored', text); },
};
globalThis.location = { href: 'ORIGIN' };
globalThis.fetch = async (path) => ({ text: async () => (path === '/token' ? 'TOKEN' : '') });
const showState = (state) => console.log('state', state);
const showReading = (timestamp, data) => console.log('reading', timestamp, JSON.stringify(data));
const showGap = (missed) => console.log('gap', missed);
const showError = (text) => console.log('error', text);
"""


@pytest.mark.e2e
@pytest.mark.edge
def test_python(meters: Meters, tmp_path: Path) -> None:
    service, serials = meters
    imports, _, example = replaced(snippet(test_python), {URL: service.url}).partition("\n\n")
    script = f"""\
import asyncio
{imports}

async def fetch_token():
    return {token()!r}

async def main():
{textwrap.indent(example, "    ")}
asyncio.run(main())
"""
    (tmp_path / "example.py").write_text(script)
    with Running("exec python3 -u example.py", tmp_path) as running:
        for serial in serials:
            running.lines(serial, 2)


@pytest.mark.e2e
@pytest.mark.edge
def test_javascript(meters: Meters, tmp_path: Path) -> None:
    service, serials = meters
    imports, _, example = snippet(test_javascript).partition("\n")
    origin = service.url.replace("ws:", "http:")
    page = replaced(PAGE, {"ORIGIN": origin, "TOKEN": token()})
    # Stands for `npm install energyws`, which has a test of its own.
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "energyws").symlink_to(ROOT / "energyws" / "web")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "example.js").write_text(f"{imports}\n{page}{example}")
    node = f"exec {program('node')} --experimental-websocket example.js"
    with Running(node, tmp_path) as running:
        for serial in serials:
            running.lines(serial, 2)
        running.lines('stored {"energy":')
        running.lines("state live")


@pytest.mark.e2e
@pytest.mark.edge
def test_keys_in_python(meters: Meters, tmp_path: Path) -> None:
    service, (serial, _) = meters
    documented = replaced(snippet(test_keys_in_python), {METER: serial})
    imports, _, example = documented.partition("\n\n")
    shown = replaced(example, {"match message:": "print('got', message)\n        match message:"})
    script = f"""\
import asyncio
{imports}

url, token = {service.url!r}, {token()!r}

async def main():
{textwrap.indent(shown, "    ")}
asyncio.run(main())
"""
    (tmp_path / "example.py").write_text(script)
    with Running("exec python3 -u example.py", tmp_path) as running:
        running.lines(f"key='{serial}', is_snapshot=True")
        running.lines(f"key='{serial}', is_snapshot=False", 2)
    assert all(serial in line for line in running.output)


@pytest.mark.e2e
@pytest.mark.edge
def test_keys_in_javascript(meters: Meters, tmp_path: Path) -> None:
    service, (serial, _) = meters
    imports, _, example = replaced(snippet(test_keys_in_javascript), {METER: serial}).partition(
        "\n"
    )
    shown = replaced(example, {"newest.set(": "console.log(message.key, newest.size), newest.set("})
    known = f"const [url, token] = ['{service.url}', '{token()}'];"
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "energyws").symlink_to(ROOT / "energyws" / "web")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "example.js").write_text(f"{imports}\n{known}{shown}")
    node = f"exec {program('node')} --experimental-websocket example.js"
    with Running(node, tmp_path) as running:
        running.lines(f"{serial} 0")
        running.lines(f"{serial} 1", 2)


def test_directory_of_the_module(tmp_path: Path) -> None:
    done = bash(snippet(test_directory_of_the_module), tmp_path)
    assert (Path(done.stdout.strip()) / "energyws.js").is_file(), done.stderr
