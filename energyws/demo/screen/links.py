"""What the demo prints for others to connect with."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from energyws.settings import Admin

# Shell continues a command after a backslash at the end of a line, so these can be copied whole.
_CONTINUED: Final = " \\"
# Of the lines that follow.
_INDENT: Final = "  "


@dataclass(frozen=True, slots=True)
class Links:
    """The addresses of a running demo.

    host: for programs on this machine; outside: the one for others in the network, if they can
    reach it. token_file: has the token, which commands read so that no line shows it. command: how
    this user types `energyws`. meter: the key of one of the meters.
    """

    host: str
    port: int
    admin_port: int
    token: str
    token_file: Path
    command: str
    meter: str
    outside: str | None = None

    @property
    def websocket(self) -> str:
        """The endpoint, without a token."""
        return f"ws://{_bracketed(self.host)}:{self.port}/ws/energy"

    @property
    def page(self) -> str:
        """The page's address, without a token."""
        return self._page(self.host)

    @property
    def page_with_token(self) -> str:
        """The page's address; a browser sends a fragment to no server."""
        return f"{self.page}#token={self.token}"

    @property
    def page_for_phone(self) -> str | None:
        """The page's address for others in the network, with the token."""
        return None if self.outside is None else f"{self._page(self.outside)}#token={self.token}"

    @property
    def wscat(self) -> list[str]:
        """The command in lines that a shell reads as one."""
        return [
            f"wscat -c '{self.websocket}?subscribe=energy'{_CONTINUED}",
            f'{_INDENT}-H "Authorization: Bearer $(cat {self._quoted})"',
        ]

    @property
    def tail(self) -> list[str]:
        """As `wscat`."""
        return [
            f"WS_TOKEN=$(cat {self._quoted}){_CONTINUED}",
            f"{_INDENT}{self.command} tail {self.websocket}",
        ]

    @property
    def one_meter(self) -> list[str]:
        """As `wscat`, for the readings of one meter: the newest, and what follows."""
        first, second = self.tail
        return [first, f"{second} --key {self.meter} --snapshot"]

    @property
    def curl(self) -> list[str]:
        """As `wscat`, for the same readings as Server-Sent Events."""
        return [
            f"curl -N {self._page(self.host)}sse/energy{_CONTINUED}",
            f'{_INDENT}-H "Authorization: Bearer $(cat {self._quoted})"',
        ]

    @property
    def top(self) -> str:
        """The command for the live view; it finds the default port without help."""
        where = ""
        if self.admin_port != Admin().port:
            where = f" --admin http://127.0.0.1:{self.admin_port}"
        return f"{self.command} top{where}"

    @property
    def _quoted(self) -> str:
        return shlex.quote(str(self.token_file))

    def _page(self, host: str) -> str:
        return f"http://{_bracketed(host)}:{self.port}/"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
