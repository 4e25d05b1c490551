"""The files of the page, as they are installed."""

from __future__ import annotations

import re

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
