"""What a session writes to while it does not write to its transport."""

from __future__ import annotations

from typing import Final


class Nowhere:
    """Drops everything: the session has no transport, or may send no more."""

    def write_nocheck(self, data: bytes) -> None:
        """Drop it."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


NOWHERE: Final = Nowhere()


class Gathered:
    """Collects what is to be one write."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write_nocheck(self, data: bytes) -> None:
        """Keep it."""
        self._pieces.append(data)

    def get_write_buffer_size(self) -> int:
        """None of it is in a transport."""
        return 0

    def is_closing(self) -> bool:
        return False

    def take(self) -> bytes:
        """Everything so far."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data
