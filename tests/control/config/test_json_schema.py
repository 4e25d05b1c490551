"""The schema for editors accepts what the loader accepts, key by key."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from energyws.control.config import load, yaml_tree
from energyws.control.config.json_schema import json_schema
from energyws.control.config.problems import KeyPath, dotted
from energyws.control.config.schema import at, is_list, is_mapping, known_keys
from tests.control.config.test_example import EXAMPLE, _uncommented
from tests.control.configs import AUTH, KAFKA, SEED, problems_of, yaml

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
VALUES = (None, True, -1, 0, 1, 2, 300, 1000, 70_000, 2**40, 0.5, "", "x", "auto", "INFO", [], {})
INSIDE = [("streams", "gas", "topic"), ("auth", "issuers", 0, "issuer"), ("kafka", "options", "x")]
KEYS = [path for path in known_keys() if not is_mapping(at(path))] + INSIDE


def config(path: KeyPath, value: Any) -> dict[str, Any]:
    """A configuration with this value."""
    tree: Any = yaml(KAFKA + AUTH)
    inner = tree
    for part, following in pairwise(path):
        if isinstance(part, int):
            inner.append({"name": "a", "issuer": "b", "jwks_url": "http://c"})
            inner = inner[0]
        else:
            inner = inner.setdefault(part, [] if isinstance(following, int) else {})
    if path[:2] == ("server", "tls"):
        inner |= {"cert": "c", "key": "k"}
    inner[path[-1]] = value
    return tree  # type: ignore[no-any-return]


def test_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", KEYS, ids=dotted)
def test_value_is_valid_where_the_loader_takes_it(path: KeyPath) -> None:
    # The loader takes 0 and 1 for false and true, which no editor needs to propose.
    for value in VALUES if at(path) is not bool else (None, True, False, 2, "x", [], {}):
        tree = config(path, value)
        text = yaml_tree.write(tree)
        # Rules between keys, and what a text must look like, are beyond the schema.
        wrong = re.compile(rf"{re.escape(dotted(path))}: (must be|found .*: use)")
        types = [each for each in problems_of(text) if wrong.search(each) and "URL" not in each]
        assert VALIDATOR.is_valid(tree) is not bool(types), (value, types)


@pytest.mark.parametrize("path", [key for key in KEYS if not is_list(at(key))], ids=dotted)
def test_variable_may_be_any_single_value(path: KeyPath) -> None:
    VALIDATOR.validate(config(path, "$(NAME)"))


def test_examples_are_valid() -> None:
    deployed = [path.read_text() for path in EXAMPLE.parent.glob("*/**/config.yaml")]
    assert len(deployed) > 1
    for text in (SEED, EXAMPLE.read_text(), _uncommented()[0], *deployed):
        VALIDATOR.validate(yaml(text))
    line, _, _ = load.example().partition("\n")
    assert line == "# yaml-language-server: $schema=config.schema.json"


@pytest.mark.parametrize("path", known_keys(), ids=dotted)
def test_every_key_is_described(path: KeyPath) -> None:
    schema = SCHEMA
    for part in path:
        schema = schema["properties"][part]
    assert schema["description"]


@pytest.mark.parametrize(
    "text",
    ["servr: {}", "server: {prot: 1}", "server: {tls: {cert: c}}", "streams: {gas: {}}", "[]"],
)
def test_mistake_is_marked(text: str) -> None:
    assert not VALIDATOR.is_valid(yaml(text))


def test_file_beside_the_example_is_up_to_date() -> None:
    found = json.loads(EXAMPLE.with_name("config.schema.json").read_text())
    assert found == SCHEMA, "run: energyws config-schema > config/config.schema.json"
