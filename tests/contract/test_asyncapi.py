"""The AsyncAPI document is valid, complete, and says what the schemas and the code say."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from energyws.protocol.messages import MAX_LAST, OnLag, parse_query
from tests.contract.asyncapi import DOCUMENT, FILE, MESSAGES, REPLIES, examples
from tests.contract.schemas import CONTRACT, SCHEMAS, strict, validator
from tests.npm import installed
from tests.web.agent import program

PARSER = "@asyncapi/parser@3.6.6"
QUERY = DOCUMENT["channels"]["websocket"]["bindings"]["ws"]["query"]["properties"]


def findings(file: Path) -> list[dict[str, Any]]:
    """What the official parser finds in a document."""
    done = subprocess.run(
        [program("node"), str(Path(__file__).with_name("validate.mjs")), installed(PARSER), file],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


# The first run installs the parser.
@pytest.mark.timeout(300)
def test_official_parser_finds_nothing() -> None:
    assert findings(FILE) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("action: send", "action: emit"), ("./schemas/data.json", "./schemas/date.json")],
)
def test_official_parser_finds_a_mistake(tmp_path: Path, right: str, wrong: str) -> None:
    (tmp_path / "schemas").symlink_to(CONTRACT / "schemas")
    text = FILE.read_text()
    assert right in text
    (tmp_path / FILE.name).write_text(text.replace(right, wrong, 1))
    assert any(each["severity"] == 0 for each in findings(tmp_path / FILE.name))


@pytest.mark.parametrize("example", examples().values(), ids=examples())
def test_example_is_valid(example: dict[str, Any]) -> None:
    validator(example["type"]).validate(example)
    strict(example["type"]).validate(example)


def test_document_has_every_message() -> None:
    assert {name: message["payload"]["$ref"] for name, message in MESSAGES.items()} == {
        name: f"./schemas/{name}.json" for name in SCHEMAS
    }
    assert {*REPLIES} == {"subscribe", "unsubscribe", "ping", "auth"}
    sent = {
        message["$ref"].rpartition("/")[2].replace("problem", "error")
        for operation in DOCUMENT["operations"].values()
        for message in [*operation["messages"], *operation.get("reply", {}).get("messages", [])]
    }
    assert sent == {*SCHEMAS}


def test_query_is_what_the_service_understands() -> None:
    assert {*QUERY} == {"token", "subscribe", "resume", "since", "last", "on_lag"}
    assert QUERY["last"]["maximum"] == MAX_LAST
    assert QUERY["on_lag"]["enum"] == [each.value for each in OnLag]
    subscription = parse_query("subscribe=a,b&resume=a:1-1&resume=b:1-2&on_lag=latest")
    assert subscription is not None
    assert (subscription.streams, subscription.on_lag) == (("a", "b"), OnLag.LATEST)
