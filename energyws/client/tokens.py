"""The token of each connection, and its renewal while the connection lasts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

from .backoff import Backoff
from .connection import Connection
from .failure import NoToken, Refused

# RFC 9110 section 5.6.2: an HTTP token. A JWT is one, and nothing that could end a header is.
_HTTP_TOKEN: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)

Token = str | Callable[[], str | Awaitable[str | None] | None]


class Tokens:
    """source: the token, or the application's function that gives one; see Client."""

    def __init__(self, source: Token | None) -> None:
        self._source = source
        self._backoff = Backoff()
        self.are_fresh = callable(source)

    async def headers(self) -> dict[str, str]:
        """Those of a handshake. Raises Refused, and NoToken for any other failure."""
        try:
            token = await self._fresh()
        except Refused:
            raise
        except Exception as error:
            raise NoToken(f"no token: {type(error).__name__}: {error}") from error
        self._backoff.reset()
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def renew(self, connection: Connection, *, again: bool = False) -> None:
        """Send a fresh token, if there is one and none is on its way.

        again: after a pause, because the service could not check the last one yet.
        """
        seconds = self._backoff.next_seconds() if again else 0.0
        if self.are_fresh and (connection.renewal is None or connection.renewal.done()):
            renewal = self._send(connection, seconds)
            connection.renewal = asyncio.get_running_loop().create_task(renewal)

    def renewed(self, connection: Connection) -> None:
        """The service has accepted the fresh token."""
        self._backoff.reset()
        connection.awaits_auth = False

    async def _fresh(self) -> str | None:
        given = self._source() if callable(self._source) else self._source
        token = given if given is None or isinstance(given, str) else await given
        if token is not None and not (isinstance(token, str) and _HTTP_TOKEN.fullmatch(token)):
            raise Refused("the token is not a JWT")
        return token

    async def _send(self, connection: Connection, seconds: float) -> None:
        while connection.failure is None:
            await asyncio.sleep(seconds)
            try:
                token = await self._fresh()
            except Refused:
                # The service ends the connection when its token expires; the next one tries again.
                return
            except Exception:
                seconds = self._backoff.next_seconds()
                continue
            if token is not None:
                connection.send({"type": "auth", "token": token})
                connection.awaits_auth = True
            return
