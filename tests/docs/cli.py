"""Writes docs/cli.md, the reference of the command line, from its parser.

python -m tests.docs.cli
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from typing import Final

from energyws.cli.main import _parser
from tests.docs.pages import ROOT

PAGE: Final = ROOT / "docs" / "cli.md"
_HEAD: Final = """\
# Command line

Every verb of `energyws`, with its options.
`python -m tests.docs.cli` writes this page from the command line itself, and a test fails if the two differ.
`energyws --version` prints the version; `energyws VERB --help` prints what is below.

## Exit codes

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed: the reason is on standard error |
| 2 | the arguments or the configuration cannot be used: the reason is on standard error |
| 130 | Ctrl-C |

`energyws serve` has [more](architecture.md#exit-codes).
"""


def verbs() -> Mapping[str, argparse.ArgumentParser]:
    """The parser of each verb."""
    for action in _parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            found: Mapping[str, argparse.ArgumentParser] = action.choices
            return found
    raise AssertionError("the command line has no verbs")


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(line for item in verbs().items() for line in _verb(*item))])


def _verb(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {name}"
    yield ""
    yield f"`energyws {name}{''.join(f' {_usage(each)}' for each in _arguments(parser))}`"
    yield ""
    if parser.description:
        yield from [_line(parser.description), ""]
    yield "| argument | meaning |"
    yield "|---|---|"
    for action in _arguments(parser):
        yield f"| `{_named(action)}` | {_cell(action)} |"
    yield ""
    if parser.epilog:
        # Paragraphs of one line each, and examples of several.
        for part in parser.epilog.split("\n\n"):
            head, _, example = part.partition(":\n")
            if example:
                yield from [f"{_line(head).capitalize()}:", "", f"`{example.strip()}`", ""]
            else:
                yield from [_line(part), ""]


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [each for each in parser._actions if not isinstance(each, argparse._HelpAction)]


def _usage(action: argparse.Action) -> str:
    if not action.option_strings:
        return _named(action)
    return _named(action) if action.required else f"[{_named(action)}]"


def _named(action: argparse.Action) -> str:
    """The option with its value's name, or the name of a positional argument."""
    metavar = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    assert isinstance(metavar, str)
    if action.choices and not action.metavar:
        metavar = "|".join(map(str, action.choices))
    return " ".join([*action.option_strings[-1:], *([metavar] if metavar else [])])


def _cell(action: argparse.Action) -> str:
    text = _line(action.help or "")
    if action.choices and action.metavar:
        text += f"{'; ' if text else ''}one of {', '.join(map(str, action.choices))}"
    return text


def _line(text: str) -> str:
    """On one line; what Markdown would take for its own is code."""
    text = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"(?<![\w`])(--[a-z]+|\$[A-Z_]+|https?://[^\s)]+|wss?://[^\s,)]+)", r"`\1`", text)


if __name__ == "__main__":
    PAGE.write_text(page())
