"""The effect of a change in the settings: a restart, new processes, or nothing more."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest

from energyws.control.reload.plan import TABLE, Takes, plan, takes
from energyws.settings import Kafka, Settings, Stream, Tls

OLD = Settings(kafka=Kafka(brokers="b", topic="t"), streams={"energy": Stream(topic="t")})


def changed(section: str, **values: Any) -> Settings:
    return replace(OLD, **{section: replace(getattr(OLD, section), **values)})


def test_unchanged_settings_take_nothing() -> None:
    found = plan(OLD, OLD)
    assert (found.settings, found.keys) == (OLD, {})
    assert not found.consumer
    assert not found.workers


@pytest.mark.parametrize(
    ("new", "consumer", "workers"),
    [
        (changed("server", max_connections=5), False, False),
        (changed("server", tls=Tls(cert="c", key="k")), False, False),
        (changed("server", workers=3), False, False),
        (changed("auth", jwt_secret="s"), False, False),
        (changed("auth", keys_claim="meters"), False, True),
        (changed("log", level="DEBUG"), False, False),
        (changed("supervision", hang_seconds=9.0), False, False),
        (changed("admin", token="t"), False, False),
        (changed("kafka", brokers="c"), True, False),
        (changed("schema_registry", url="http://r"), True, False),
        (changed("history", warm=5), True, True),
        (changed("bus", heartbeat_seconds=1.0), True, True),
        (replace(OLD, streams={"energy": Stream(topic="u")}), True, True),
    ],
)
def test_processes_that_must_be_replaced(new: Settings, consumer: bool, workers: bool) -> None:
    found = plan(OLD, new)
    assert found.settings == new
    assert (found.consumer, found.workers) == (consumer, workers)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("server", "host", "::"),
        ("server", "port", 1),
        ("admin", "host", "::"),
        ("admin", "port", 1),
    ],
)
def test_key_that_takes_a_restart_keeps_its_value(section: str, key: str, value: object) -> None:
    new = replace(changed(section, **{key: value}), log=replace(OLD.log, level="DEBUG"))
    found = plan(OLD, new)
    assert found.taking(Takes.RESTART) == [f"{section}.{key}"]
    assert found.settings == replace(OLD, log=new.log)
    assert not found.workers


def test_key_that_is_not_in_the_table_takes_new_workers() -> None:
    assert takes("server.of_tomorrow") is Takes.WORKERS


def test_table_names_keys_that_exist() -> None:
    known = {section.name for section in fields(Settings)}
    for section in fields(Settings):
        value = getattr(OLD, section.name)
        if is_dataclass(value):
            known |= {f"{section.name}.{each.name}" for each in fields(value)}
    assert TABLE.keys() <= known
