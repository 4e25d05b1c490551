"""A session's life as a table: from its 101 to the end of its connection.

docs/architecture.md has it, too ("A session's life"), with what each state means. An event that a
state does not list cannot happen in it, and is an error; one that leads back to its own state has
no effect. Messages in fragments and the rate limit are kept beside it: they are the same in any
state.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    NEW = "new"
    OPENING = "opening"
    OPEN = "open"
    PAUSED = "paused"
    CLOSING = "closing"
    CLOSED = "closed"


class Event(Enum):
    """UPGRADED: picows has the connection. OPENED: the first messages are complete.

    PAUSE and RESUME: the transport's write buffer is above its limit, and below it again. CLOSE:
    either side begins the closing handshake. LOST: the connection has ended.
    """

    UPGRADED = "upgraded"
    OPENED = "opened"
    PAUSE = "pause"
    RESUME = "resume"
    CLOSE = "close"
    LOST = "lost"


class IllegalEvent(Exception):
    """An event that cannot happen in this state: a fault of ours."""


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.NEW: {Event.UPGRADED: State.OPENING},
    State.OPENING: {
        Event.OPENED: State.OPEN,
        Event.CLOSE: State.CLOSING,
        Event.LOST: State.CLOSED,
    },
    State.OPEN: {
        Event.PAUSE: State.PAUSED,
        Event.CLOSE: State.CLOSING,
        Event.LOST: State.CLOSED,
    },
    State.PAUSED: {
        Event.RESUME: State.OPEN,
        Event.CLOSE: State.CLOSING,
        Event.LOST: State.CLOSED,
    },
    State.CLOSING: {
        # The close frame, too, may fill the buffer.
        Event.PAUSE: State.CLOSING,
        Event.RESUME: State.CLOSING,
        # The first reason counts.
        Event.CLOSE: State.CLOSING,
        Event.LOST: State.CLOSED,
    },
    # A drain or a history request may end after its client has left.
    State.CLOSED: {Event.CLOSE: State.CLOSED},
}


def after(state: State, event: Event) -> State:
    """The state that follows; raises IllegalEvent."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalEvent(f"{event.value} while {state.value}") from None
