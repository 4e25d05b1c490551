"""What the demo prints for others to connect with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from energyws.demo.screen.links import Links
from energyws.settings import Admin


def links(tmp_path: Path, **changes: object) -> Links:
    token_file = tmp_path / "to ken"
    token_file.write_text("secret")
    known: dict[str, object] = {
        "host": "127.0.0.1",
        "port": 8080,
        "admin_port": Admin().port,
        "token": "secret",
        "token_file": token_file,
        "command": ".venv/bin/energyws",
        "meter": "735",
    }
    return Links(**{**known, **changes})  # type: ignore[arg-type]  # of a test


def test_token_is_in_no_command_and_in_no_query(tmp_path: Path) -> None:
    found = links(tmp_path, outside="192.0.2.7")
    lines = [
        *found.wscat,
        *found.curl,
        *found.tail,
        *found.one_meter,
        found.top,
        found.page,
        found.websocket,
    ]
    assert not any("secret" in line for line in lines)
    for link in (found.page_with_token, found.page_for_phone):
        assert link is not None
        assert link.endswith("/#token=secret")
        assert "?" not in link


def test_lines_are_one_command_of_a_shell(tmp_path: Path) -> None:
    # With programs that print what they are given.
    script = "\n".join(['wscat() { echo "$@"; }', *links(tmp_path).wscat])
    printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert printed.stdout == (
        "-c ws://127.0.0.1:8080/ws/energy?subscribe=energy -H Authorization: Bearer secret\n"
    )
    tail = links(tmp_path, command="sh -c 'echo $WS_TOKEN $0 $1'").tail
    printed = subprocess.run(
        ["sh", "-c", "\n".join(tail)], capture_output=True, text=True, check=True
    )
    assert printed.stdout == "secret tail ws://127.0.0.1:8080/ws/energy\n"
    assert links(tmp_path).one_meter[1] == f"{links(tmp_path).tail[1]} --key 735 --snapshot"


@pytest.mark.parametrize(("port", "end"), [(Admin().port, "top"), (4711, ":4711")])
def test_default_admin_port_is_not_named(port: int, end: str, tmp_path: Path) -> None:
    assert links(tmp_path, admin_port=port).top.endswith(end)


def test_ipv6_address_is_in_brackets(tmp_path: Path) -> None:
    found = links(tmp_path, host="::1")
    assert (found.page, found.page_for_phone) == ("http://[::1]:8080/", None)
