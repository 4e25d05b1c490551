"""Writes docs/cli.md, the reference of the command line, from its parser.

python -m tests.docs.cli
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from energyws.cli.main import command_line
from tests.docs.pages import ROOT

PAGE: Final = ROOT / "docs" / "cli.md"
# What so many verbs have is described once.
_SEVERAL: Final = 3
_HEAD: Final = """\
# Command line

`python -m tests.docs.cli` writes this page from the command line; a test fails if they differ.
`energyws VERB --help` prints the same about one verb, `energyws --version` the version.
"""


def page() -> str:
    """The whole page."""
    verbs = command_line().verbs
    texts = {name: _epilog(parser) for name, parser in verbs.items()}
    uses = Counter(_row(each) for parser in verbs.values() for each in _arguments(parser))
    notes = Counter(note for found, _ in texts.values() for note in found)
    lines = [_HEAD, "## Options of several verbs", "", *_table(uses, shared=True)]
    for name, parser in verbs.items():
        arguments = _arguments(parser)
        own = Counter({_row(each): uses[_row(each)] for each in arguments})
        found, example = texts[name]
        lines += [f"## {name}", "", _line(parser.description or ""), ""]
        lines += [f"`energyws {' '.join([name, *map(_usage, arguments)])}`", ""]
        lines += [f"Example: `{example}`", ""]
        lines += _table(own, shared=False)
        for note in found:
            if notes[note] < _SEVERAL:
                lines += [note, ""]
    lines += ["## Exit codes", ""]
    several = [note for note, count in notes.items() if count >= _SEVERAL]
    lines += [f"Verbs with `--admin`, {note}." for note in several]
    lines += ["`energyws serve` has [its own](architecture.md#exit-codes).", ""]
    return "\n".join(lines)


def _table(rows: Counter[str], *, shared: bool) -> Iterator[str]:
    chosen = [row for row, count in rows.items() if (count >= _SEVERAL) == shared]
    if chosen:
        yield from ["| argument | meaning |", "|---|---|", *chosen, ""]


def _epilog(parser: argparse.ArgumentParser) -> tuple[list[str], str]:
    """The paragraphs of a verb's notes, and its example."""
    notes, _, example = (parser.epilog or "").rpartition("example:\n")
    return [_line(note) for note in notes.split("\n\n") if note.strip()], example.strip()


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    # argparse has no other way to ask.
    return [each for each in parser._actions if each.dest != "help"]


def _usage(action: argparse.Action) -> str:
    optional = action.option_strings and not action.required
    return f"[{_named(action)}]" if optional else _named(action)


def _named(action: argparse.Action) -> str:
    """The option with its value's name, or the name of a positional argument."""
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    return " ".join([*action.option_strings[-1:], *([value] if value else [])])


def _row(action: argparse.Action) -> str:
    parts = [_line(action.help)] if action.help else []
    if action.choices and not action.help:
        parts.append(f"one of {', '.join(f'`{each}`' for each in action.choices)}")
    return f"| `{_named(action)}` | {'; '.join(parts)} |"


def _line(text: str) -> str:
    """On one line, with options, variables and addresses as code."""
    text = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"(?<![\w`])(--[a-z]+|\$[A-Z_]+|(?:http|ws)s?://[^\s),]*)", r"`\1`", text)


if __name__ == "__main__":
    PAGE.write_text(page())
