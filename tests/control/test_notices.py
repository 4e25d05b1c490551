"""What the log says about settings, and about what the machine lacks."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from energyws.control import notices
from energyws.control.host.shortages import Shortage
from energyws.settings import Auth, Kafka, Settings

SETTINGS = Settings(kafka=Kafka(brokers="b", topic="t"), auth=Auth(jwt_secret="1" * 40))


@pytest.fixture(autouse=True)
def information(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "energyws")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def test_shortage_is_said_once_until_it_has_been_absent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[Shortage] = []
    monkeypatch.setattr(notices, "shortages", lambda settings, workers, host: [*found])
    one, other = (Shortage(name, (("workers", 2),), "add some") for name in ("one", "other"))
    shortages = notices.Shortages()
    for now, expected in [
        ([], []),
        ([one], ["one"]),
        ([one, other], ["other"]),
        ([other], []),
        ([one, other], ["one"]),
    ]:
        found[:] = now
        shortages.warn(SETTINGS, 2)
        assert said(caplog) == expected


def test_settings_to_look_at_are_named(caplog: pytest.LogCaptureFixture) -> None:
    notices.warn_of_settings(replace(SETTINGS, auth=Auth(jwt_secret=" " + "1" * 40)))
    assert said(caplog) == ["configuration to look at"]


def test_only_a_new_level_of_the_log_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    used = []
    monkeypatch.setattr(notices, "adjust", lambda log, process: used.append(log.level))
    quiet = replace(SETTINGS, log=replace(SETTINGS.log, level="ERROR"))
    notices.use_log("HUP", SETTINGS, SETTINGS)
    assert said(caplog) == []
    notices.use_log("HUP", SETTINGS, quiet)
    assert said(caplog) == ["log level changed"]
    assert used == ["INFO", "ERROR"]
