"""The command line as a whole: its verbs, their help, and the answer to mistakes."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from energyws.cli import mistakes
from energyws.errors import ExitCode

Verb = Callable[[argparse.Namespace], int]
COLUMNS: Final = 80
_TEXT_COLUMNS: Final = COLUMNS - 2


class Command:
    """The parser of `energyws`; its help has the groups and verbs in the order of their adding."""

    def __init__(self, text: str) -> None:
        self._parser = _Parser(text)
        self._subparsers = self._parser.add_subparsers(
            metavar="VERB", required=True, parser_class=argparse.ArgumentParser
        )

    @property
    def parser(self) -> argparse.ArgumentParser:
        """The parser of the whole command line."""
        return self._parser

    @property
    def verbs(self) -> Mapping[str, argparse.ArgumentParser]:
        """The parser of each verb."""
        return self._subparsers.choices

    def group(self, title: str) -> None:
        """Begin a group of verbs."""
        self._parser.groups[title] = {}

    def add(
        self,
        name: str,
        run: Verb,
        text: str,
        example: str,
        *,
        notes: str = "",
        linux_only: bool = False,
    ) -> argparse.ArgumentParser:
        """The parser of a new verb.

        text: a sentence without its capital letter and full stop. example: a line for a shell.
        notes: what else its user must know, such as exit codes.
        """
        *_, group = self._parser.groups.values()
        group[name] = text
        parts = [f"example:\n  {example}"]
        if notes:
            parts.insert(0, textwrap.fill(notes, _TEXT_COLUMNS))
        verb = self._subparsers.add_parser(
            name,
            help=text,
            description=textwrap.fill(f"{text[0].upper()}{text[1:]}.", _TEXT_COLUMNS),
            epilog="\n\n".join(parts),
            formatter_class=_Help,
        )
        verb.set_defaults(run=run, linux_only=linux_only)
        return verb

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options of the verb that `arguments` begin with, its function as `run`.

        Ends the process: with status 0 after --help and --version, with 2 after a mistake. No
        message repeats what may be a token.
        """
        if not arguments:
            self._parser.print_help(sys.stderr)
            raise SystemExit(ExitCode.CONFIG)
        if (message := mistakes.about_verb(arguments, self.verbs)) is not None:
            self._refuse(message)
        verb = self.verbs.get(arguments[0], self._parser)
        message = mistakes.about_options(arguments[1:], verb.format_usage())
        if message is not None:
            verb.error(message)
        options, rest = self._parser.parse_known_args(arguments)
        if rest:
            verb.error("more arguments than it takes; see the usage above")
        return options

    def _refuse(self, message: str) -> NoReturn:
        self._parser.exit(ExitCode.CONFIG, f"energyws: {message}\n")


class _Parser(argparse.ArgumentParser):
    """`groups`: by their titles, the verbs and what they do."""

    def __init__(self, text: str) -> None:
        super().__init__(prog="energyws", description=f"{text}.", formatter_class=_Help)
        self.add_argument("--version", action=_Version, help="print the version")
        self.groups: dict[str, dict[str, str]] = {}

    def format_help(self) -> str:
        # argparse knows no groups of verbs.
        column = max(len(name) for verbs in self.groups.values() for name in verbs)
        lines = [self.format_usage(), self.description or ""]
        for title, verbs in self.groups.items():
            lines += ["", f"{title}:"]
            lines += [f"  {name:{column}}  {text}" for name, text in verbs.items()]
        lines += ["", f"{self.prog} VERB --help has an example, and the options of the verb.", ""]
        return "\n".join(lines)


class _Help(argparse.RawDescriptionHelpFormatter):
    """At most 80 columns, on wider terminals, too: they are read faster."""

    # Python 3.14 passes more than 3.11 does.
    def __init__(self, prog: str, **options: Any) -> None:
        columns = min(COLUMNS, shutil.get_terminal_size().columns)
        super().__init__(prog, width=columns - 2, **options)


class _Version(argparse.Action):
    """Reads the version only when it is asked for: importlib.metadata takes long to import."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from energyws.version import installed

        print(installed())
        parser.exit()
