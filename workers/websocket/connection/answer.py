"""A response that takes time: what the connection's exchange asks of it, and what it may ask."""

from __future__ import annotations

from typing import Protocol

from workers.websocket.connection.accepted import AcceptedSocket


class Outlet(Protocol):
    """The connection of an answer. connection: its socket."""

    connection: AcceptedSocket

    def write(self, data: bytes) -> None:
        """Send bytes; may pause the answer."""

    def set_write_buffer_limits(self, *, high: int, low: int) -> None:
        """When the answer is paused, and when it may go on."""

    def answered(self, *, failed: bool) -> None:
        """The response is complete. failed: it was an error, after which the connection ends."""

    def abort(self) -> None:
        """End the connection at once: the client sees that the response is cut."""


class Answer:
    """Exactly one of `Outlet.answered` and `lost` ends it; after the former comes `sent`, once."""

    __slots__ = ()

    def begin(self, outlet: Outlet, *, closes: bool) -> None:
        """Start. closes: the connection ends after it."""
        raise NotImplementedError

    def pause_writing(self) -> None:
        """The client does not read as fast as the answer is written."""
        raise NotImplementedError

    def resume_writing(self) -> None:
        """There is room again."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection has ended before the answer was complete."""
        raise NotImplementedError

    def sent(self) -> None:
        """The client has read nearly all of the complete answer, or the connection has ended."""
        raise NotImplementedError
