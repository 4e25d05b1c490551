"""The example file: the predecessor's configuration, and every key with its default."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from energyws.control.config import load, yaml_tree
from energyws.control.config.problems import KeyPath, Problems
from energyws.settings import Kafka, Settings
from tests.control.configs import SECRET, SEED, problems_of, yaml

EXAMPLE = Path(__file__).parents[3] / "config" / "config.example.yaml"


def _uncommented() -> tuple[str, Problems]:
    """The example with every key uncommented, and the locations of its values."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    text = "\n".join(re.sub(r"^( *)#(?=\S)", r"\1", line) for line in lines)
    locations = Problems("example")
    yaml_tree.read(text, locations)
    return text, locations


def test_the_example_is_the_predecessors_config_and_comments() -> None:
    active = yaml(EXAMPLE.read_text(encoding="utf-8"))

    assert {key: value for key, value in active.items() if value} == yaml(SEED)
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert [line for line in SEED.splitlines() if line not in lines] == []


def test_the_example_loads_as_it_is() -> None:
    settings = load.load(EXAMPLE, env={"JWT_SECRET": SECRET})

    assert settings == load.parse(SEED, "c.yaml", {"JWT_SECRET": SECRET})


def test_the_example_with_every_key_uncommented_loads() -> None:
    text, _ = _uncommented()

    secrets = (
        *("JWT_SECRET", "JWT_SECRET_PREVIOUS", "SASL_PASSWORD", "ADMIN_TOKEN"),
        "SCHEMA_REGISTRY_PASSWORD",
    )
    assert problems_of(text, dict.fromkeys(secrets, "s")) == []


def _defaults() -> dict[KeyPath, Any]:
    settings = Settings(kafka=Kafka(brokers="b"))
    return {
        (section.name, key.name): getattr(getattr(settings, section.name), key.name)
        for section in fields(Settings)
        if section.name != "streams"
        for key in fields(getattr(settings, section.name))
    }


@pytest.mark.parametrize(("path", "default"), [(("streams",), {}), *_defaults().items()], ids=str)
def test_the_example_has_every_key_with_its_default(path: KeyPath, default: Any) -> None:
    text, locations = _uncommented()
    value: Any = yaml(text)
    for part in path:
        value = value[part]

    given_by_seed = yaml(SEED).get(path[0], {})
    if path[-1] in given_by_seed:
        return
    number = locations.location(path).rank[1]
    line = EXAMPLE.read_text(encoding="utf-8").splitlines()[number - 1]
    assert line.lstrip().startswith(f"#{path[-1]}: ")
    assert re.search(r"  # \S", line)
    if default in (None, (), {}):
        assert "  # not set: " in line
    else:
        assert value == default
        assert "not set" not in line
