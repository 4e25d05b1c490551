"""The installed version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed() -> str:
    """The version in the package's metadata, which is read from disk."""
    try:
        return version("energyws")
    except PackageNotFoundError:
        return "a clone that is not installed"
