"""Every picture in docs/ comes from a command that its page names."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, links, pages

KINDS = ("*.svg", "*.png", "*.gif", "*.jpg", "*.webp")
PICTURES = sorted(path for kind in KINDS for path in (ROOT / "docs").rglob(kind))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_page_names_the_command_that_draws_the_picture(picture: Path) -> None:
    showing = [
        text
        for page in pages()
        for text in [(ROOT / page).read_text()]
        for link in links(text)
        if (ROOT / page).parent.joinpath(link).resolve() == picture
    ]
    assert showing, "no page shows it"
    commands = {
        command
        for text in showing
        for command in re.findall(r"python -m ((?:bench|tests)\.[a-z_.]+)", text)
    }
    assert commands, "its page names no command"
    assert [each for each in commands if find_spec(each) is None] == []
