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
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson
from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSHandshakeError,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from energyws.errors import (
    CLOSES,
    ERROR_CODES,
    TOKEN_EXPIRING,
    UNAUTHORIZED_CLOSE,
    EnergywsError,
)
from energyws.position import BadPosition, Position, parse
from energyws.settings import KIB, MAX_RECORD_BYTES

BACKOFF_FIRST_SECONDS: Final = 0.25
BACKOFF_MAX_SECONDS: Final = 15.0
# Nothing at all for so long, not even to a ping half-way: the connection is half open.
SILENCE_SECONDS: Final = 40.0
CONNECT_SECONDS: Final = 10.0
# The largest record that a service takes, and what is around it.
MAX_FRAME_BYTES: Final = MAX_RECORD_BYTES + 64 * KIB
# How many messages may wait for the application before the socket is left unread.
QUEUE_MESSAGES: Final = 1_000

_FATAL_CLOSES: Final = frozenset(close.code for close in CLOSES if not close.retry) - {1000}
_FATAL_STATUS: Final = frozenset(
    code.status for code in ERROR_CODES if code.close is not None and not code.close.retry
) | {404}
_UNAUTHORIZED: Final = UNAUTHORIZED_CLOSE.code
_EXPIRING: Final = TOKEN_EXPIRING.code
_CLOSED: Final = {"type": "closed"}
_SILENT: Final = {"type": "silent"}

Token = str | Callable[[], str | Awaitable[str]]


class Refused(EnergywsError):
    """The service does not want this client as it is; trying again would not help."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One record. timestamp: RFC 3339; position: what to resume from after it."""

    stream: str
    timestamp: str
    data: dict[str, Any]
    position: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Readings that this client will not get, between what it had and `position`.

    missed: how many at most, None where nobody can tell; missing: the same per partition, where a
    resume could not be fulfilled; earliest: the earliest position that could have been.
    """

    stream: str
    missed: int | None
    reason: str
    position: str
    missing: tuple[int, ...] | None = None
    earliest: str | None = None


Message = Reading | Gap


class Backoff:
    """Exponential, with full jitter: a random time between nothing and the bound."""

    def __init__(self, rng: Callable[[], float] = random.random) -> None:
        self._rng = rng
        self._failures = 0

    def next_seconds(self) -> float:
        """How long to wait before the next attempt."""
        bound: float = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        return self._rng() * bound

    def reset(self) -> None:
        """The connection worked."""
        self._failures = 0


class Client:
    """One subscription to some streams, over as many connections as it takes.

    token: the JWT, or a callable that gives a fresh one, possibly awaitable; it is called for every
    connection, and whenever the service says that a token expires soon.
    resume: positions from an earlier run (`positions`); since: an RFC 3339 time; last: a count of
    frames. At most one of the three; the latter two matter to the first connection only.
    Iterating raises Refused when the service refuses for good.
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
        ssl_context: Any = None,
    ) -> None:
        if urlsplit(url).scheme not in ("ws", "wss"):
            raise ValueError(f"not a WebSocket URL: {_without_query(url)}")
        self._url = url
        self._token = token
        self._streams = tuple(streams)
        self._positions: dict[str, Position] = {
            stream: parse(text) for stream, text in (resume or {}).items()
        }
        self._since = since
        self._last = last
        self._on_lag = on_lag
        self._ssl_context = ssl_context
        self._backoff = Backoff()
        self._connection: _Connection | None = None
        self._after_seconds: float | None = None
        self.connects = 0

    @property
    def positions(self) -> dict[str, str]:
        """What to give as `resume` to another client that goes on from here."""
        return {stream: str(position) for stream, position in self._positions.items()}

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
        """End the connection; safe to call more than once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self.messages()

    async def messages(self) -> AsyncGenerator[Message, None]:
        """The same as iterating; a generator that can be closed early."""
        while True:
            try:
                self._connection = connection = await self._connect()
                async for message in self._receive(connection):
                    yield message
            except WSHandshakeError as error:
                status = error.response.status if error.response is not None else None
                if status is not None and int(status) in _FATAL_STATUS:
                    raise Refused(_reason(error, int(status))) from None
            except (OSError, WSError, TimeoutError):
                # Whatever it was, the next attempt tells.
                pass
            finally:
                await self.close()
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        after, self._after_seconds = self._after_seconds, None
        return self._backoff.next_seconds() if after is None else after

    async def _connect(self) -> _Connection:
        headers = {}
        token = await self._fresh_token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        _, connection = await asyncio.wait_for(
            ws_connect(
                _Connection,
                self._url,
                ssl_context=self._ssl_context,
                extra_headers=headers,
                # A redirect would be given the token.
                max_redirects=0,
                max_frame_size=MAX_FRAME_BYTES,
                logger_name="energyws.client",
            ),
            CONNECT_SECONDS,
        )
        if not isinstance(connection, _Connection):
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
        if self._positions:
            request["resume"] = self.positions
        elif self._since is not None:
            request["since"] = self._since
        elif self._last is not None:
            request["last"] = self._last
        return request

    async def _fresh_token(self) -> str | None:
        token = self._token() if callable(self._token) else self._token
        return token if token is None or isinstance(token, str) else await token

    async def _receive(self, connection: _Connection) -> AsyncIterator[Message]:
        pinged = False
        while True:
            message = await connection.next()
            if message is _SILENT:
                if pinged:
                    return
                pinged = True
                connection.send({"type": "ping"})
                continue
            pinged = False
            if message is _CLOSED:
                if connection.close_code == _UNAUTHORIZED and callable(self._token):
                    # The token has expired; the next handshake shows whether a fresh one will do.
                    return
                if connection.close_code in _FATAL_CLOSES:
                    raise Refused(f"closed with {connection.close_code}: {connection.reason}")
                return
            if message.get("code") == _EXPIRING and callable(self._token):
                connection.send({"type": "auth", "token": await self._fresh_token()})
            for event in self._events(message):
                yield event

    def _events(self, message: dict[str, Any]) -> Iterable[Message]:
        match message.get("type"):
            case "data":
                stream, position = message["stream"], message["id"]
                self._advance(stream, position)
                yield Reading(stream, message["timestamp"], message["data"], position)
            case "lagged":
                stream, position = message["stream"], message["to"]
                self._advance(stream, position)
                yield Gap(stream, message["missed"], message["reason"], position)
            case "subscribed":
                self._backoff.reset()
                yield from self._subscribed(message["positions"])
            case "reconnect":
                self._after_seconds = message["after_ms"] / 1000
            case "error" if message["code"] in _FATAL_ERRORS:
                raise Refused(f"{message['code']}: {message['message']}")

    def _subscribed(self, positions: dict[str, dict[str, Any]]) -> Iterable[Message]:
        for stream, told in positions.items():
            resumed = stream in self._positions
            if told.get("recovered") is False and (resumed or self._since is not None):
                # What was known says nothing about what comes now.
                self._positions.pop(stream, None)
                self._advance(stream, told["position"])
                missing = None if told.get("missing") is None else tuple(told["missing"])
                missed = None if missing is None else sum(missing)
                reason, position = told["reason"], told["position"]
                yield Gap(stream, missed, reason, position, missing, told.get("earliest"))
            elif not resumed:
                self._advance(stream, told["position"])

    def _advance(self, stream: str, text: str) -> None:
        try:
            position = parse(text)
        except BadPosition:
            return
        known = self._positions.get(stream)
        self._positions[stream] = position if known is None else known.merge(position)


# A subscription that can never work, whatever the connection.
_FATAL_ERRORS: Final = frozenset({"UNKNOWN_STREAM", "FORBIDDEN_STREAM", "BAD_MESSAGE"})


class _Connection(WSListener):
    """One connection: frames in, decoded messages out, and the socket unread when they pile up."""

    def __init__(self) -> None:
        self.close_code: int | None = None
        self.reason = ""
        self._transport: WSTransport | None = None
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        # One for the connection: a timeout around each message would be a sixth of its cost.
        self._timer = self._loop.call_later(SILENCE_SECONDS / 2, self._on_timer)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._heard_at = self._loop.time()
        if frame.msg_type == WSMsgType.CLOSE:
            self.close_code = frame.get_close_code().value
            self.reason = frame.get_close_reason() or ""
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            self._messages.put_nowait(orjson.loads(frame.get_payload_as_memoryview()))
            if self._messages.qsize() > QUEUE_MESSAGES and not self._paused:
                self._paused = True
                transport.underlying_transport.pause_reading()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._messages.put_nowait(_CLOSED)

    def _on_timer(self) -> None:
        now = self._loop.time()
        if now - self._heard_at >= SILENCE_SECONDS / 2:
            if self._messages.empty():
                self._messages.put_nowait(_SILENT)
            # Whoever has yet to take what came says nothing about the other end.
            self._heard_at = now
        due = self._heard_at + SILENCE_SECONDS / 2
        self._timer = self._loop.call_at(due, self._on_timer)

    async def next(self) -> dict[str, Any]:
        """The next message; _SILENT for each half of SILENCE_SECONDS; _CLOSED after the last."""
        if self._paused and self._messages.qsize() < QUEUE_MESSAGES // 2:
            assert self._transport is not None
            self._paused = False
            self._transport.underlying_transport.resume_reading()
        return await self._messages.get()

    def send(self, message: dict[str, object]) -> None:
        """Send a message, unless the connection is gone."""
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, orjson.dumps(message))

    async def close(self) -> None:
        """Close politely, then for certain."""
        transport, self._transport = self._transport, None
        if transport is None or transport.is_disconnected:
            return
        transport.send_close(WSCloseCode.OK)
        transport.disconnect(graceful=False)
        await transport.wait_disconnected()


def _reason(error: WSHandshakeError, status: int) -> str:
    try:
        return f"HTTP {status}: {orjson.loads(error.raw_body or b'')['message']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"HTTP {status}"


def _without_query(url: str) -> str:
    return url.partition("?")[0]
