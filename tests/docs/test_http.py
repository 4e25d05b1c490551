"""The examples of docs/protocol.md for plain HTTP, with curl and in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from energyws.testing import eventually, token
from tests.docs.browser import opened
from tests.docs.conftest import Meters
from tests.docs.shell import Running, bash, replaced
from tests.docs.snippets import snippet
from tests.web.agent import program

pytestmark = [pytest.mark.e2e, pytest.mark.edge]


def with_curl(block: str, meters: Meters) -> str:
    """The block, for this service; without curl the test is skipped, or fails in CI."""
    program("curl")
    return replaced(block, {"localhost:8080": f"127.0.0.1:{meters[0].port}"})


def test_event_stream_by_curl(meters: Meters, tmp_path: Path) -> None:
    command = with_curl(snippet(test_event_stream_by_curl), meters)
    with Running(f"exec {command}", tmp_path, TOKEN=token()) as running:
        running.lines("event: subscribed")
        running.lines('data: {"type":"data"', 3)


def test_newest_records_by_curl(meters: Meters, tmp_path: Path) -> None:
    command = with_curl(snippet(test_newest_records_by_curl), meters)
    done = bash(command, tmp_path, TOKEN=token())
    answer = json.loads(done.stdout)
    assert answer.keys() == {"type", "stream", "records", "position"}
    assert {each["type"] for each in answer["records"]} == {"data"}


def test_history_by_curl(meters: Meters, tmp_path: Path) -> None:
    command = with_curl(snippet(test_history_by_curl), meters)
    done = bash(command, tmp_path, TOKEN=token())
    *records, end = map(json.loads, done.stdout.splitlines())
    assert {each["type"] for each in records} == {"data"}
    assert end["type"] == "end"


def test_event_source_of_a_browser(meters: Meters, tmp_path: Path) -> None:
    service, serials = meters
    url = f"`http://127.0.0.1:{service.port}/sse/energy"
    example = replaced(snippet(test_event_source_of_a_browser), {"`/sse/energy": url})
    page = f"""<!doctype html><script type="module">
const post = (seen) => fetch('/seen', {{method: 'POST', body: JSON.stringify(seen)}});
const show = (data) => post(data.saveeyeDeviceSerialNumber);
const mark = post, report = post;
const token = {json.dumps(token())};
{example}
</script>"""
    (tmp_path / "index.html").write_text(page)
    with opened(tmp_path) as seen:
        eventually(lambda: set(serials) <= set(map(str, seen)), "readings of both meters")
    assert set(seen) == set(serials)
