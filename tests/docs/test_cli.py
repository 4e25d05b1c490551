"""The reference of the command line."""

from __future__ import annotations

from energyws.cli.main import command_line
from tests.docs.cli import PAGE, page


def test_page_is_what_the_command_line_says() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.docs.cli"


def test_every_verb_has_an_example() -> None:
    text = page()
    for name in command_line().verbs:
        assert f"\n## {name}\n" in text
        assert f"Example: `energyws {name}" in text
