"""Where workers find the consumer: every consumer's sockets are in a directory of its own, and a
link names the one that serves.

So a successor can bind its sockets while the old consumer still publishes, and take over in one
step (rename(2)). Binding an ipc path that is in use would steal it, and the first one's close would
then remove the second one's path.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_LINK: Final = "current"


def current(bus: Path) -> Path:
    """Where workers connect: whichever consumer serves at that moment."""
    return bus / _LINK


class BusDirectory:
    """One consumer's directory below the service's directory for the bus."""

    def __init__(self, bus: Path) -> None:
        self._bus = bus
        self.directory = bus / f"consumer-{os.getpid()}"
        # Whoever cleans up temporary files may have taken them.
        bus.mkdir(mode=0o700, exist_ok=True)
        self.directory.mkdir(mode=0o700, exist_ok=True)

    def take_over(self) -> None:
        """Be the one that workers find from now on."""
        link = self.directory / _LINK
        link.unlink(missing_ok=True)
        link.symlink_to(self.directory.name)
        link.replace(current(self._bus))

    def found(self) -> bool:
        """Whether workers find anybody."""
        return current(self._bus).is_symlink()
