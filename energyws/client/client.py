"""A client that reconnects, resumes, and reports the readings that it missed.

    async with Client("ws://localhost:8080/ws/energy", token=TOKEN) as client:
        async for message in client:
            match message:
                case Reading(): print(message.timestamp, message.data)
                case Gap(): print("missed", message.missed, message.reason)

Every reading comes once and in the order of its partition, over any number of connections and
replicas, as long as the topic keeps its records; a Gap stands for readings that it no longer has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Literal, Self, TypeVar

from .codes import (
    BAD_MESSAGE,
    FATAL_ERRORS,
    KEYS_UNAVAILABLE,
    NORMAL,
    NOT_FILTERED,
    STREAM_UNAVAILABLE,
    TOKEN_EXPIRING,
)
from .connection import Connection
from .failure import Failure, address, explain
from .messages import Message, Reader, Snapshot
from .request import Keys, Request, by_stream
from .retry import Retry
from .tokens import Token, Tokens

CONNECT_SECONDS: Final = 10.0

State = Literal["idle", "connecting", "live", "waiting"]
_Result = TypeVar("_Result")


class Client:
    """One subscription to some streams, over as many connections as needed.

    token: the JWT, or a function that returns a fresh one, possibly awaitable. It is called for
    every connection, and whenever the service says that a token expires soon. If it raises
    Refused, the iteration ends; any other exception is a failed attempt.
    keys: only the records with these keys, of every stream or by stream; without them, all that the
    token allows. `735*`: every key that begins so.
    resume: positions from an earlier run (`positions`); since: an RFC 3339 time; last: a number of
    frames. At most one of the three; the latter two apply to the first connection only.
    snapshot: first the newest record of each key; `snapshots` has what the service said of it.
    max_rate: at most so many times a second the newest record of each key; `conflated` counts those
    that were superseded.
    on_state: called from the event loop at every change of `state` or of its cause; the cause is a
    text for people, and empty where there is none. `trouble` has the cause in detail.
    Raises ValueError for an invalid URL. Iterating raises Refused when the service refuses for
    good, and ends after `close`.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        streams: Iterable[str] = ("energy",),
        keys: Keys | None = None,
        resume: Mapping[str, str] | None = None,
        since: str | None = None,
        last: int | None = None,
        snapshot: bool = False,
        max_rate: float | None = None,
        on_lag: str = "skip",
        on_state: Callable[[State, str], object] | None = None,
        ssl_context: Any = None,
    ) -> None:
        self._address = address(url)
        self._url = url
        self._tokens = Tokens(token)
        names = tuple(streams)
        self._request = Request(
            names, by_stream(keys, names), since, last, snapshot, max_rate, on_lag
        )
        self._reader = Reader(
            resume or {},
            is_bounded=self._request.is_bounded,
            tells_removals=self._request.tells_removals,
        )
        self._on_state = on_state
        self._ssl_context = ssl_context
        self._retry = Retry(self._tokens.are_fresh)
        self._connection: Connection | None = None
        self._working: asyncio.Task[Any] | None = None
        self._closed = False
        self._runs = 0
        self.state: State = "idle"
        self.trouble: Failure | None = None
        self.connects = 0

    @property
    def positions(self) -> dict[str, str]:
        """The `resume` for another client that continues after the last message."""
        return self._reader.positions

    @property
    def snapshots(self) -> dict[str, Snapshot]:
        """Of each stream, what the service said of the last snapshot."""
        return dict(self._reader.snapshots)

    @property
    def conflated(self) -> int:
        """How many records newer ones have superseded, under `max_rate` or `on_lag` latest."""
        return self._reader.conflated

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and the iteration for good; safe to call more than once."""
        self._closed = True
        if self._working is not None:
            self._working.cancel()
        if self._connection is not None:
            await self._connection.close()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self.messages()

    async def messages(self) -> AsyncGenerator[Message, None]:
        """The same as iterating, as a generator that can be closed early."""
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
                    failure = explain(error, self._address)
                    if failure is None:
                        raise
                    self._enter("waiting", failure)
                else:
                    if connection is None or self._closed:
                        return
                    self._connection = connection
                    while (message := await connection.next()) is not None and not self._closed:
                        for event in self._reader.take(message):
                            yield event
                    await connection.close()
                    assert connection.failure is not None
                    failure, after_seconds = connection.failure, connection.after_seconds
                if not self._closed:
                    pause = self._retry.seconds(failure, after_seconds)
                    await self._unless_closed(asyncio.sleep(pause))
        finally:
            if connection is not None:
                await connection.close()
            # An abandoned loop may end after the next one has begun.
            if run == self._runs:
                self._enter("idle")

    async def _unless_closed(self, work: Coroutine[Any, Any, _Result]) -> _Result | None:
        """The result of `work`; None once this client is closed."""
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

    def _enter(self, state: State, failure: Failure | None = None) -> None:
        self.state = state
        self.trouble = failure
        loop = asyncio.get_running_loop()
        if self._on_state is not None:
            # Called later: an exception in it must not interrupt the caller of this method.
            loop.call_soon(self._on_state, state, failure.text if failure else "")

    async def _connect(self) -> Connection:
        headers = await self._tokens.headers()
        connection = Connection(self._on_message, self._on_end)
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.open(self._url, headers, self._ssl_context)
        self.connects += 1
        connection.send(self._request.message(self.positions))
        return connection

    def _on_message(self, connection: Connection, message: dict[str, Any]) -> bool:
        """Do what must not wait until the application has consumed the earlier messages.

        Returns whether the message is to be queued for the application.
        """
        match message.get("type"):
            case "lagged" | "snapshot" | "removed" | "position":
                return True
            case "subscribed":
                if streams := self._request.unconfirmed(message):
                    text = f"the service does not filter {', '.join(streams)} by key"
                    connection.end(Failure("closed", text, NORMAL, NOT_FILTERED))
                    return False
                self._retry.succeeded()
                self._enter("live")
                return True
            case "reconnect":
                connection.after_seconds = message["after_ms"] / 1000
            case "authenticated":
                self._tokens.renewed(connection)
            case "notice" | "error":
                # Older services send an error where newer ones send a notice.
                self._on_error(connection, message)
        return False

    def _on_error(self, connection: Connection, message: dict[str, Any]) -> None:
        code = message.get("code")
        text = f"{code}: {message.get('message')}"
        if code == TOKEN_EXPIRING:
            self._tokens.renew(connection)
        elif code == KEYS_UNAVAILABLE and connection.renewal is not None:
            self._tokens.renew(connection, again=True)
        elif code == STREAM_UNAVAILABLE:
            self._enter(self.state, Failure("stream", text, code=code))
        elif code == BAD_MESSAGE and connection.awaits_auth:
            # The fresh token does not allow the streams of this connection.
            connection.end(Failure("closed", text, NORMAL))
        elif code in FATAL_ERRORS:
            connection.end(Failure("closed", text, NORMAL, code))

    def _on_end(self, connection: Connection) -> None:
        self._enter("waiting", connection.failure)
