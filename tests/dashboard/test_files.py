"""The files of the page, as they are installed."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from energyws.dashboard import files
from energyws.dashboard.site import Site


def test_every_file_that_a_file_names_is_there() -> None:
    read = files.read()
    for name, content in read.items():
        text = content.decode()
        if name == "index.html":
            named = re.findall(r"assets/VERSION/([\w.]+)", text)
            assert named
        else:
            named = re.findall(r"(?:from|import) '\./([\w.]+)'", text)
        assert set(named) <= set(read), name


def test_every_file_has_a_type() -> None:
    site = Site(files.read())
    for name in files.read():
        path = "/" if name == "index.html" else f"/assets/{site.version}/{name}"
        assert site.answer(path, None) is not None, name


def test_every_file_is_installed() -> None:
    root = Path(__file__).parent.parent.parent
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg")
    here = root / "energyws" / "dashboard"
    patterns = setup["options.package_data"]["energyws.dashboard"].split(",")
    installed = {path for pattern in patterns for path in here.glob(pattern.strip())}
    served = {path for path in here.rglob("*") if path.name in files.read()}
    assert served <= installed
    assert here / "vendor" / "uplot" / "LICENSE" in installed
