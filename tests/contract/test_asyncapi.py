"""The AsyncAPI document is valid, complete, and says what the schemas and the code say."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from energyws.protocol.http import stream_queries
from energyws.protocol.http.queries import parse_query
from energyws.protocol.http.stream_queries import parse_history
from energyws.protocol.messages import MAX_LAST, MAX_RATE, MIN_RATE, OnLag
from tests.contract.asyncapi import DOCUMENT, FILE, MESSAGES, REPLIES, examples
from tests.contract.schemas import CONTRACT, SCHEMAS, strict, validator
from tests.npm import installed
from tests.web.agent import program

PARSER = "@asyncapi/parser@3.6.6"
QUERY = DOCUMENT["channels"]["websocket"]["bindings"]["ws"]["query"]["properties"]


MISTAKES = {"action": "action: emit", "reference": "$ref: ./schemas/date.json"}
RIGHT = {"action": "action: send", "reference": "$ref: ./schemas/data.json"}


# The first run installs the parser.
@pytest.mark.timeout(300)
def test_official_parser_finds_mistakes_only(tmp_path: Path) -> None:
    (tmp_path / "schemas").symlink_to(CONTRACT / "schemas")
    text = FILE.read_text()
    files = {"right": FILE, **{name: tmp_path / f"{name}.yaml" for name in MISTAKES}}
    for name, wrong in MISTAKES.items():
        assert RIGHT[name] in text
        files[name].write_text(text.replace(RIGHT[name], wrong, 1))
    done = subprocess.run(
        [
            *(program("node"), Path(__file__).with_name("validate.mjs"), installed(PARSER)),
            *files.values(),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each for each in found if each["file"] == str(FILE)] == []
    assert {each["file"] for each in found if each["severity"] == 0} == {
        str(files[name]) for name in MISTAKES
    }


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
    assert {*QUERY} == {
        *("token", "subscribe", "resume", "since", "last", "on_lag", "key", "snapshot", "max_rate"),
    }
    rate = QUERY["max_rate"]
    assert (rate["minimum"], rate["maximum"]) == (MIN_RATE, MAX_RATE)
    assert QUERY["last"]["maximum"] == MAX_LAST
    assert QUERY["on_lag"]["enum"] == [each.value for each in OnLag]
    last, history = (
        DOCUMENT["operations"][name]["bindings"]["http"]["query"]["properties"]
        for name in ("answerLast", "answerHistory")
    )
    assert (last["last"]["minimum"], last["last"]["maximum"]) == (1, stream_queries.MAX_LAST)
    assert {*history} == {"token", "after", "since", "last", "limit", "key"}
    assert history["limit"]["maximum"] == stream_queries.MAX_LIMIT
    assert parse_history("a", "last=1") == parse_history(
        "a", f"last=1&limit={history['limit']['default']}"
    )
    subscription = parse_query("subscribe=a,b&resume=a:1-1&resume=b:1-2&on_lag=latest")
    assert subscription is not None
    assert (subscription.streams, subscription.on_lag) == (("a", "b"), OnLag.LATEST)
