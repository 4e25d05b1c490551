"""What the keys of `energyws top` mean; what cannot be taken back is asked for twice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final


class KeyCommand(Enum):
    """What a key asks for."""

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
# Once begun, they go on to their end.
_QUESTIONS: Final = {
    KeyCommand.ROLL: "Replace the consumer and every worker, one at a time? y/n",
    KeyCommand.DRAIN: "Send every client away and end the service? y/n",
}
# An arrow or the like (ECMA-48, 5.4): what follows the escape is no key of ours.
_SEQUENCE: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|)")


def characters(typed: str) -> str:
    """What a terminal has sent, without the keys that are no characters."""
    return _SEQUENCE.sub("", typed)


@dataclass(frozen=True, slots=True)
class Dialog:
    """Between two keys; asked: what waits for a yes."""

    asked: KeyCommand | None = None

    @property
    def question(self) -> str | None:
        """What the operator is asked."""
        return None if self.asked is None else _QUESTIONS[self.asked]

    def press(self, key: str) -> tuple[Dialog, KeyCommand | None]:
        """What comes next, and what is to be done now. All but "y" is a no to a question."""
        if self.asked is not None:
            return Dialog(), self.asked if key == "y" else None
        command = KEYS.get(key)
        if command in _QUESTIONS:
            return Dialog(command), None
        return Dialog(), command
