from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

import energyws.version
from energyws.version import installed


def test_version_is_that_of_the_package() -> None:
    assert installed() == version("energyws")


def test_clone_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(energyws.version, "version", missing)
    assert installed() == "a clone that is not installed"
