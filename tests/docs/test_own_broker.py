"""What the README and the tutorial say about a broker of one's own, as it is typed."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from energyws.testing import SECRET, Broker, Records
from tests.docs.shell import Running, bash, replaced
from tests.docs.snippets import snippets

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

# A port that is free, in place of the file's.
PORTS = {
    "ENERGYWS_SERVER__PORT": "0",
    "ENERGYWS_SERVER__HOST": "127.0.0.1",
    "ENERGYWS_ADMIN__PORT": "0",
}
EXAMPLE = "example-config > config/config.yaml"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A directory with `.venv`, where this Python stands for what pip would install."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "config").mkdir()
    return tmp_path


def edited(broker: Broker, topic: str) -> str:
    """The command that makes the file, and a reader who then edits it."""
    keys = {"brokers": broker.bootstrap, "topic": topic}
    edits = "; ".join(f's/^  {key}: .*/  {key}: "{value}"/' for key, value in keys.items())
    return f"{EXAMPLE}\nsed -i '{edits}' config/config.yaml\n:"


def serving(running: Running) -> str:
    """The endpoint of a service that has started."""
    (line,) = [each for each in running.lines(" listening ") if "admin" not in each]
    port = re.search(r"port=([0-9]+)", line)
    assert port is not None
    # It answers a plain request once a worker is ready.
    running.lines("worker-0 ready")
    return f"ws://127.0.0.1:{port[1]}/ws/energy"


def test_readme(broker: Broker, topic: str, records: Records, clone: Path) -> None:
    records.send(1, watts=230)
    serve, use = (block.text for block in snippets(test_readme))
    installing, _, serve = serve.partition("\n")
    assert installing == "python3 -m venv .venv && .venv/bin/pip install ."
    serve = replaced(
        serve, {EXAMPLE: edited(broker, topic), "JWT_SECRET=…": f"JWT_SECRET={SECRET}"}
    )
    with Running(serve, clone, **PORTS) as running:
        url = serving(running)
        ours, _, wscat = use.partition("wscat ")
        ours = replaced(ours, {"ws://localhost:8080/ws/energy": f"{url} --last 1 --count 1"})
        done = bash(f"{ours}\necho $TOKEN", clone, JWT_SECRET=SECRET)
        reading, token = done.stdout.splitlines()
        assert json.loads(reading)["data"] == {"n": 0, "watts": 230}, done.stderr
        # What wscat would connect to and send.
        address, typed = re.findall(r'^-c "(.*)"\n> (.*)$', wscat, re.MULTILINE)[0]
        changes = {"ws://localhost:8080/ws/energy": url, "$TOKEN": token}
        with connect(replaced(address, changes), proxy=None) as peer:
            peer.send(typed)
            assert json.loads(peer.recv(timeout=20))["type"] == "subscribed"


def test_tutorial(broker: Broker, topic: str, clone: Path) -> None:
    configure, serve = (block.text for block in snippets(test_tutorial))
    done = bash(replaced(configure, {EXAMPLE: edited(broker, topic)}), clone)
    assert done.returncode == 0, done.stderr
    with Running(serve, clone, **PORTS) as running:
        url = serving(running)
        token = next(line for line in running.output if re.fullmatch(r"eyJ[\w.-]+", line))
        with connect(f"{url}?subscribe=energy&token={token}", proxy=None) as peer:
            assert json.loads(peer.recv(timeout=20))["type"] == "subscribed"


def test_page(broker: Broker, topic: str, clone: Path) -> None:
    serve, _, link = snippets(test_page)[0].text.partition("\n")
    assert bash(f"energyws {edited(broker, topic)}", clone).returncode == 0
    with Running(f"exec {serve}", clone, JWT_SECRET=SECRET, **PORTS) as running:
        port = urlsplit(serving(running)).port
        (printed,) = bash(link, clone, JWT_SECRET=SECRET).stdout.split()
        assert re.fullmatch(r"http://localhost:8080/#token=eyJ[\w.-]+", printed)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as response:
            assert response.headers["Content-Type"].startswith("text/html")
