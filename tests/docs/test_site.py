"""The navigation of the site, and what its check finds."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.docs.pages import INDEX, ROOT, published
from tests.docs.site import CONFIG, faults, navigation


def test_navigation_follows_the_index() -> None:
    index = """\
# Documentation

[README](../README.md)

## Reference

* [protocol.md](protocol.md) and [close codes](protocol.md#close-codes)
* [files](../config/README.md)

## For operators

* [protocol.md](protocol.md) once more

## How to

* [React](how-to/react.md)
"""
    assert navigation(index) == [
        {"Home": "README.md"},
        {"All pages": "docs/README.md"},
        {"Reference": ["docs/protocol.md", "config/README.md"]},
        {"How to": ["docs/how-to/react.md"]},
    ]


def test_every_page_is_in_the_navigation() -> None:
    sections = navigation((ROOT / INDEX).read_text())
    listed = {
        name
        for section in sections
        for value in section.values()
        for name in ([value] if isinstance(value, str) else value)
    }
    assert {name for name in published() if name.endswith(".md")} == listed


def test_no_font_is_fetched() -> None:
    assert yaml.safe_load(CONFIG.read_text())["theme"]["font"] is False


def test_faults_of_a_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h2 id="here">A</h2><a href="https://example.com/">followed, not fetched</a>'
        '<a href="b.html#there">right</a><a href="#here">right</a><a href="b%20c.txt">right</a>'
        '<a href="b.html#nowhere">x</a><a href="none.html">x</a><img src="none.svg">'
        '<source srcset="none-dark.svg">'
        '<script src="https://cdn.example/x.js"></script><img src="//cdn.example/x.png">'
    )
    (tmp_path / "b.html").write_text('<p id="there">')
    (tmp_path / "b c.txt").write_text("")
    (tmp_path / "x.css").write_text('a { src: url("https://fonts.example/f.woff") }')
    assert faults(tmp_path) == [
        "a.html: b.html#nowhere: there is no such anchor",
        "a.html: none.html is no file of the site",
        "a.html: none.svg is no file of the site",
        "a.html: none-dark.svg is no file of the site",
        "a.html: <script> would fetch https://cdn.example/x.js",
        "a.html: <img> would fetch //cdn.example/x.png",
        "x.css: would fetch https://fonts.example/f.woff",
    ]
