"""Which energyws this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed() -> str:
    """The version of the package; reads its metadata from disk."""
    try:
        return version("energyws")
    except PackageNotFoundError:
        return "a clone that is not installed"
