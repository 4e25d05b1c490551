"""The commands that operators type beside a running service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from energyws.testing import Records, Service, token
from tests.docs.conftest import Meters
from tests.docs.pages import ROOT
from tests.docs.shell import bash, replaced
from tests.docs.snippets import snippet, snippets
from tests.web.agent import program

pytestmark = [pytest.mark.e2e, pytest.mark.edge]


def test_commands_for_a_running_service(
    serve: Callable[..., Service], records: Records, tmp_path: Path
) -> None:
    program("jq")
    records.send(3)
    service = serve(server={"workers": 1}).ready()
    service.caught_up(records)
    path = tmp_path / "admin.json"
    path.write_text(json.dumps({"admin": {"port": service.admin_port}}))
    output = []
    for block in snippets(test_commands_for_a_running_service):
        done = bash(block.text, tmp_path, CONFIG_PATH=str(path))
        assert done.returncode == 0, f"{block}: {done.stderr}"
        output += done.stdout.splitlines()
    assert "log level: INFO before, DEBUG now" in output
    partitions = [line.split("\t") for line in output if "\t" in line]
    assert partitions == [["energy", str(partition), "0"] for partition in range(3)]


def test_schema_for_editors(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    done = bash(snippet(test_schema_for_editors), tmp_path)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "config" / "config.schema.json").read_bytes()
    assert written == (ROOT / "config" / "config.schema.json").read_bytes()


def test_server_is_judged(meters: Meters, tmp_path: Path) -> None:
    changes = {"wss://meters.example/ws/energy": meters[0].url, "WS_TOKEN=…": f"WS_TOKEN={token()}"}
    done = bash(replaced(snippet(test_server_is_judged), changes), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 failed, " in done.stdout
