"""The files of the page, as they are installed."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

_OURS: Final = ("static", "vendor/uplot")
_SERVED: Final = (".html", ".css", ".js", ".svg")


def read() -> dict[str, bytes]:
    """The content of each file by its name. energyws.js is the client that everybody can use."""
    page = files("energyws.dashboard")
    found = {
        entry.name: entry.read_bytes()
        for directory in _OURS
        for entry in page.joinpath(directory).iterdir()
        if entry.name.endswith(_SERVED)
    }
    found["energyws.js"] = files("energyws.web").joinpath("energyws.js").read_bytes()
    return found
