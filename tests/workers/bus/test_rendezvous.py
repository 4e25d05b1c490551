"""How workers find the consumer and its successor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.bus.rendezvous import BusDirectory, current


def test_no_consumer_is_found_before_one_takes_over(tmp_path: Path) -> None:
    consumer = BusDirectory(tmp_path / "bus")
    assert not consumer.found()
    assert not current(tmp_path / "bus").exists()


def test_successor_is_found_as_soon_as_it_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = tmp_path / "bus"
    old = BusDirectory(bus)
    (old.path / "frames").write_text("old")
    old.take_over()
    assert (current(bus) / "frames").read_text() == "old"
    monkeypatch.setattr(os, "getpid", lambda: 1)
    new = BusDirectory(bus)
    (new.path / "frames").write_text("new")
    assert (current(bus) / "frames").read_text() == "old"
    new.take_over()
    assert (current(bus) / "frames").read_text() == "new"
    # A consumer that ends removes only its own files.
    (old.path / "frames").unlink()
    assert (current(bus) / "frames").read_text() == "new"


def test_directories_are_private(tmp_path: Path) -> None:
    consumer = BusDirectory(tmp_path / "bus")
    assert [each.stat().st_mode & 0o777 for each in (tmp_path / "bus", consumer.path)] == [
        0o700,
        0o700,
    ]


def test_removed_link_is_noticed(tmp_path: Path) -> None:
    consumer = BusDirectory(tmp_path)
    consumer.take_over()
    assert consumer.found()
    current(tmp_path).unlink()
    assert not consumer.found()
