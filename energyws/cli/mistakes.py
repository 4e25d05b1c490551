"""What is probably meant by a command line that cannot be used.

A message repeats only words that look like a verb or an option: another one may be a token.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,19}")
_OPTION: Final = re.compile(r"--[a-z][a-z-]*")
_OWN: Final = ("--help", "--version")
# What the same is called elsewhere, and what no spelling leads to.
_ELSEWHERE: Final = {
    "help": "--help",
    "version": "--version",
    "run": "serve",
    "start": "serve",
    "stop": "drain",
    "restart": "roll",
    "validate": "check-config",
    "init": "example-config",
}


def about_verb(arguments: Sequence[str], verbs: Collection[str]) -> str | None:
    """What is wrong with the first argument, which should be a verb; None if nothing is."""
    first = arguments[0]
    # argparse takes the beginning of an option for the option.
    if first in verbs or first == "-h" or (first[2:] and any(o.startswith(first) for o in _OWN)):
        return None
    if first.startswith("-"):
        return _too_early(first, arguments, verbs)
    if "://" in first and "tail" in verbs:
        return "a verb comes first: energyws tail URL prints what a service sends"
    if not _WORD.fullmatch(first):
        return "the first argument is no verb; energyws --help lists them"
    meant = _ELSEWHERE.get(first) or _closest(first.lower().replace("_", "-"), verbs)
    if meant is None:
        return f"there is no verb {first}; energyws --help lists them"
    return f"there is no verb {first}; did you mean energyws {meant}?"


def about_options(arguments: Sequence[str], usage: str) -> str | None:
    """The first of a verb's arguments that is an option which its usage does not have."""
    known = [*_OPTION.findall(usage), "--help"]
    for argument in arguments:
        if argument == "--":
            return None
        name = argument.partition("=")[0]
        if not _OPTION.fullmatch(name) or any(each.startswith(name) for each in known):
            continue
        meant = _closest(name, known)
        return f"there is no option {name}" + (f"; did you mean {meant}?" if meant else "")
    return None


def _too_early(first: str, arguments: Sequence[str], verbs: Collection[str]) -> str:
    name = first.partition("=")[0]
    verb = next((each for each in arguments if each in verbs), None)
    if verb is None or not _OPTION.fullmatch(name):
        return "a verb comes first; energyws --help lists them"
    return f"options come after the verb: energyws {verb} {name} …"


def _closest(word: str, known: Collection[str]) -> str | None:
    # Only a mistake needs it.
    from difflib import get_close_matches

    begun = [each for each in known if each.startswith(word)]
    return next(iter(begun or get_close_matches(word, known, 1)), None)
