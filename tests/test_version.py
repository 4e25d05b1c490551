from __future__ import annotations

import configparser
import json
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import energyws.version
from energyws.version import installed

ROOT = Path(__file__).parent.parent


def test_version_is_that_of_the_package() -> None:
    assert installed() == version("energyws")


def test_clients_have_the_version_of_the_service() -> None:
    python = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]
    javascript = json.loads((ROOT / "energyws" / "web" / "package.json").read_text())
    assert python["version"] == javascript["version"] == installed()


def test_clients_need_what_the_service_needs_of_the_same_packages() -> None:
    python = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert set(python["dependencies"]) <= set(setup["options"]["install_requires"].split("\n"))


def test_clone_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(energyws.version, "version", missing)
    assert installed() == "a clone that is not installed"
