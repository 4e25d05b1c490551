"""A client that does it right: reconnects, resumes, and says what it could not get back.

    async with Client("ws://localhost:8080/ws/energy", token=TOKEN) as client:
        async for message in client:
            match message:
                case Reading(): print(message.timestamp, message.data)
                case Gap(): print("missed", message.missed, message.reason)

Every reading comes once and in the order of its partition, over any number of connections and
replicas, as long as the topic keeps its records; where it does not, a Gap says so in its place.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

from picows import ws_connect

from energyws.client import failure
from energyws.client.backoff import Backoff
from energyws.client.connection import MAX_MESSAGE_BYTES, Connection
from energyws.client.failure import Failure
from energyws.client.messages import Message, Reader
from energyws.errors import (
    BAD_MESSAGE,
    CLOSES,
    ERROR_CODES,
    KEYS_UNAVAILABLE,
    NORMAL,
    STREAM_UNAVAILABLE,
    TOKEN_EXPIRING,
    UNAUTHORIZED,
    UNAUTHORIZED_CLOSE,
    EnergywsError,
)

CONNECT_SECONDS: Final = 10.0

# Close codes and HTTP statuses that would only come again, unless another token helps.
_UNAUTHORIZED: Final = frozenset({UNAUTHORIZED_CLOSE.code, UNAUTHORIZED.status})
_FATAL: Final = (
    frozenset(close.code for close in CLOSES if not close.retry)
    | frozenset(each.status for each in ERROR_CODES if each.close and not each.close.retry)
    | {404}
) - {NORMAL.code, *_UNAUTHORIZED}
# A subscription that can never work, whatever the connection.
_FATAL_ERRORS: Final = frozenset({"UNKNOWN_STREAM", "FORBIDDEN_STREAM", "BAD_MESSAGE"})
# RFC 9110 section 5.6.2: a token of HTTP, as a JWT is, and nothing that could end a header.
_TOKEN: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)

Token = str | Callable[[], str | Awaitable[str | None] | None]
State = Literal["idle", "connecting", "live", "waiting"]
_Result = TypeVar("_Result")


class Refused(EnergywsError):
    """The service does not want this client as it is; trying again would not help.

    code: the error code of the service, such as UNAUTHORIZED; close: the close code, or the HTTP
    status; None where there is none.
    """

    def __init__(self, message: str, code: str | None = None, close: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.close = close


class Client:
    """One subscription to some streams, over as many connections as it takes.

    token: the JWT, or a callable that gives a fresh one, possibly awaitable; it is called for every
    connection, and whenever the service says that a token expires soon. What it raises is a failed
    attempt, unless it is a Refused, which ends the iteration.
    resume: positions from an earlier run (`positions`); since: an RFC 3339 time; last: a count of
    frames. At most one of the three; the latter two matter to the first connection only.
    on_state: called from the event loop at every change of `state`, and where its cause changes;
    the cause is for people, and empty where there is none. `trouble` has more of it.
    Raises ValueError for a URL that is none. Iterating raises Refused when the service refuses for
    good, and ends after `close`.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        streams: Iterable[str] = ("energy",),
        resume: Mapping[str, str] | None = None,
        since: str | None = None,
        last: int | None = None,
        on_lag: str = "skip",
        on_state: Callable[[State, str], object] | None = None,
        ssl_context: Any = None,
    ) -> None:
        self._place = failure.place(url)
        self._url = url
        self._token = token
        self._streams = tuple(streams)
        self._reader = Reader(resume or {}, is_bounded=since is not None)
        self._since = since
        self._last = last
        self._on_lag = on_lag
        self._on_state = on_state
        self._ssl_context = ssl_context
        self._backoff = Backoff()
        self._renewals = Backoff()
        # Whether the last attempt ended with a refused token.
        self._unauthorized = False
        self._connection: Connection | None = None
        self._working: asyncio.Task[Any] | None = None
        self._closed = False
        self._runs = 0
        self.state: State = "idle"
        self.trouble: Failure | None = None
        self.connects = 0

    @property
    def positions(self) -> dict[str, str]:
        """What to give as `resume` to another client that goes on from here."""
        return self._reader.positions

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and the iteration, for good; safe to call more than once."""
        self._closed = True
        if self._working is not None:
            self._working.cancel()
        if self._connection is not None:
            await self._connection.close()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self.messages()

    async def messages(self) -> AsyncGenerator[Message, None]:
        """The same as iterating; a generator that can be closed early."""
        self._runs += 1
        run = self._runs
        connection: Connection | None = None
        try:
            while not self._closed:
                self._enter("connecting")
                after_seconds = None
                try:
                    connection = await self._unless_closed(self._connect())
                except Exception as error:
                    trouble = self._explain(error)
                    self._enter("waiting", trouble)
                else:
                    if connection is None or self._closed:
                        return
                    self._connection = connection
                    while (message := await connection.next()) is not None and not self._closed:
                        for event in self._reader.take(message):
                            yield event
                    await connection.close()
                    assert connection.trouble is not None
                    trouble, after_seconds = connection.trouble, connection.after_seconds
                if not self._closed:
                    pause = self._judge(trouble, after_seconds)
                    await self._unless_closed(asyncio.sleep(pause))
        finally:
            if connection is not None:
                await connection.close()
            # A loop that was left may end after the next one has begun.
            if run == self._runs:
                self._enter("idle")

    async def _unless_closed(self, work: Coroutine[Any, Any, _Result]) -> _Result | None:
        """What it gives; None once this client is closed."""
        self._working = task = asyncio.ensure_future(work)
        try:
            return await task
        except asyncio.CancelledError:
            ours = asyncio.current_task()
            if self._closed and ours is not None and not ours.cancelling():
                return None
            raise
        finally:
            self._working = None

    def _explain(self, error: Exception) -> Failure:
        """Why an attempt has failed; raises what another attempt would not mend."""
        if isinstance(error, _NoToken):
            return Failure("token", str(error))
        trouble = failure.of(error, self._place)
        if trouble is None:
            raise error
        return trouble

    def _judge(self, trouble: Failure, after_seconds: float | None) -> float:
        """Seconds until the next attempt; raises Refused where none would help."""
        unauthorized = trouble.status in _UNAUTHORIZED
        # A function may give a token that is still good; twice refused, it does not.
        renewable = callable(self._token) and not self._unauthorized
        if trouble.code in _FATAL_ERRORS:
            raise Refused(trouble.text, trouble.code)
        if trouble.status in _FATAL or (unauthorized and not renewable):
            raise Refused(trouble.text, trouble.code, trouble.status)
        self._unauthorized = unauthorized
        return self._backoff.next_seconds() if after_seconds is None else after_seconds

    def _enter(self, state: State, trouble: Failure | None = None) -> None:
        self.state = state
        self.trouble = trouble
        loop = asyncio.get_running_loop()
        if self._on_state is not None:
            # Not from here: what it raises must not tear apart what is being done.
            loop.call_soon(self._on_state, state, trouble.text if trouble else "")

    async def _connect(self) -> Connection:
        headers = {}
        try:
            token = await self._fresh_token()
        except Refused:
            raise
        except Exception as error:
            raise _NoToken(f"no token: {type(error).__name__}: {error}") from error
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._renewals.reset()
        connection = Connection(self._arrived, self._ended)
        async with asyncio.timeout(CONNECT_SECONDS):
            _, listener = await ws_connect(
                lambda: connection,
                self._url,
                ssl_context=self._ssl_context,
                extra_headers=headers,
                # A redirect would be given the token.
                max_redirects=0,
                max_frame_size=MAX_MESSAGE_BYTES,
                logger_name="energyws.client",
            )
        if listener is None:
            # picows gives no listener where the connection ends in the middle of the handshake.
            raise ConnectionResetError("the connection ended before its handshake did")
        self.connects += 1
        connection.send(self._subscribe())
        return connection

    def _subscribe(self) -> dict[str, object]:
        request: dict[str, object] = {
            "type": "subscribe",
            "streams": self._streams,
            "on_lag": self._on_lag,
        }
        if positions := self.positions:
            request["resume"] = positions
        elif self._since is not None:
            request["since"] = self._since
        elif self._last is not None:
            request["last"] = self._last
        return request

    async def _fresh_token(self) -> str | None:
        given = self._token() if callable(self._token) else self._token
        token = given if given is None or isinstance(given, str) else await given
        if token is not None and not (isinstance(token, str) and _TOKEN.fullmatch(token)):
            raise Refused("the token is not a JWT")
        return token

    def _arrived(self, connection: Connection, message: dict[str, Any]) -> bool:
        """What cannot wait until the application has consumed what came before.

        Whether it has a place in the order of the others.
        """
        match message.get("type"):
            case "lagged":
                return True
            case "subscribed":
                self._backoff.reset()
                self._unauthorized = False
                self._enter("live")
                return True
            case "reconnect":
                connection.after_seconds = message["after_ms"] / 1000
            case "authenticated":
                self._renewals.reset()
                connection.awaits_auth = False
            case "notice" | "error":
                # A service of before there were notices sends errors for the same.
                self._on_remark(connection, message)
        return False

    def _on_remark(self, connection: Connection, message: dict[str, Any]) -> None:
        code = message.get("code")
        text = f"{code}: {message.get('message')}"
        if code == TOKEN_EXPIRING.code:
            self._renew(connection)
        elif code == KEYS_UNAVAILABLE.code and connection.renewal is not None:
            self._renew(connection, self._renewals.next_seconds())
        elif code == STREAM_UNAVAILABLE.code:
            self._enter(self.state, Failure("stream", text, code=code))
        elif code == BAD_MESSAGE.code and connection.awaits_auth:
            # The fresh token allows other streams than this connection's.
            connection.end(Failure("closed", text, NORMAL.code))
        elif code in _FATAL_ERRORS:
            connection.end(Failure("closed", text, NORMAL.code, code))

    def _renew(self, connection: Connection, after_seconds: float = 0.0) -> None:
        if callable(self._token) and (connection.renewal is None or connection.renewal.done()):
            renewal = self._send_fresh_token(connection, after_seconds)
            connection.renewal = asyncio.get_running_loop().create_task(renewal)

    async def _send_fresh_token(self, connection: Connection, after_seconds: float) -> None:
        while connection.trouble is None:
            await asyncio.sleep(after_seconds)
            try:
                token = await self._fresh_token()
            except Refused:
                # The service ends the connection with its token; the next one asks again.
                return
            except Exception:
                after_seconds = self._renewals.next_seconds()
                continue
            if token is not None:
                connection.send({"type": "auth", "token": token})
                connection.awaits_auth = True
            return

    def _ended(self, connection: Connection) -> None:
        self._enter("waiting", connection.trouble)


class _NoToken(Exception):
    """The function that gives tokens has failed."""
