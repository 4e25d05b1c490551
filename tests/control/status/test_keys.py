"""The commands of the keys."""

from __future__ import annotations

import pytest

from energyws.control.status.keys import HELP, KEYS, Dialog, KeyCommand, characters


@pytest.mark.parametrize(
    ("keys", "commands"),
    [
        ("++-", [KeyCommand.MORE, KeyCommand.MORE, KeyCommand.LESS]),
        ("b", [KeyCommand.REBALANCE]),
        ("q", [KeyCommand.QUIT]),
        ("xyY?\n", []),
        ("ry", [KeyCommand.ROLL]),
        ("dy", [KeyCommand.DRAIN]),
        # Only y confirms; any other key cancels, and is no command itself.
        ("rn", []),
        ("dd", []),
        ("dq", []),
        ("dY", []),
        ("d+y", []),
        ("rny+", [KeyCommand.MORE]),
    ],
)
def test_keys(keys: str, commands: list[KeyCommand]) -> None:
    dialog, found = Dialog(), []
    for key in keys:
        dialog, command = dialog.press(key)
        if command is not None:
            found.append(command)
    assert found == commands
    assert dialog.question is None


@pytest.mark.parametrize(("key", "word"), [("d", "end the service"), ("r", "every worker")])
def test_irreversible_commands_are_confirmed(key: str, word: str) -> None:
    dialog, command = Dialog().press(key)
    assert command is None
    assert dialog.question is not None
    assert word in dialog.question


def test_help_names_every_key() -> None:
    assert {key for word in HELP.split("  ") for key in word.split()[0].split("/")} == set(KEYS)


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("+q", "+q"),
        ("n\x1b[Dq", "nq"),
        ("\x1bOd+", "+"),
        ("\x1b[1;5d\x1b[15~b", "b"),
        ("\x1b", ""),
    ],
)
def test_arrows_and_function_keys_are_ignored(typed: str, keys: str) -> None:
    assert characters(typed) == keys
