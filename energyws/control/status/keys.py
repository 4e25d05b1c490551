"""The keys of `energyws top`, and the question before what cannot be undone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class KeyCommand(Enum):
    """The commands that keys stand for."""

    MORE = "one worker more"
    LESS = "one worker less"
    REBALANCE = "rebalance"
    ROLL = "roll"
    DRAIN = "drain"
    QUIT = "quit"


KEYS: Final = {
    "+": KeyCommand.MORE,
    "-": KeyCommand.LESS,
    "b": KeyCommand.REBALANCE,
    "r": KeyCommand.ROLL,
    "d": KeyCommand.DRAIN,
    "q": KeyCommand.QUIT,
}
HELP: Final = "+/- workers  b rebalance  r roll  d drain  q quit"
# Commands that cannot be stopped once they have begun.
_QUESTIONS: Final = {
    KeyCommand.ROLL: "Replace the consumer and every worker, one at a time? y/n",
    KeyCommand.DRAIN: "Close every connection and end the service? y/n",
}
# The sequence that an arrow or function key sends (ECMA-48, 5.4).
_SEQUENCE: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|)")


def characters(typed: str) -> str:
    """The characters that a terminal has sent, without arrows and function keys."""
    return _SEQUENCE.sub("", typed)


@dataclass(frozen=True, slots=True)
class Dialog:
    """The state between two keys. asked: the command that waits for a yes."""

    asked: KeyCommand | None = None

    @property
    def question(self) -> str | None:
        """The question that the operator has to answer."""
        return None if self.asked is None else _QUESTIONS[self.asked]

    def press(self, key: str) -> tuple[Dialog, KeyCommand | None]:
        """The next state, and the command to carry out now. Any key but "y" means no."""
        if self.asked is not None:
            return Dialog(), self.asked if key == "y" else None
        command = KEYS.get(key)
        if command in _QUESTIONS:
            return Dialog(command), None
        return Dialog(), command
