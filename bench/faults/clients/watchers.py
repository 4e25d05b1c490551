"""One checking client with its ledger: over WebSocket, and over Server-Sent Events."""

from __future__ import annotations

import asyncio
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from bench.faults.clients.event_source import EventSource
from bench.faults.ledger import Ledger
from bench.faults.record import check
from bench.kit.record import PARTITIONS
from energyws.client import Client, Gap, Reading
from energyws.protocol.position import BadPosition, parse

STREAM: Final = "energy"
_POLL_SECONDS: Final = 0.01


class Watcher(ABC):
    """A client, and what it has received. bearer: the token of its next connection.

    kind: "websocket" or "sse". connected_at: when its connections began (monotonic).
    """

    kind: str

    def __init__(self) -> None:
        self.ledger = Ledger([0] * PARTITIONS)
        self.heard_at = time.monotonic()
        self.silence = 0.0
        self.connected_at: list[float] = []
        self._task = asyncio.create_task(self._watch())

    @property
    @abstractmethod
    def position(self) -> str | None:
        """What it would resume from; None before it is subscribed."""

    @property
    @abstractmethod
    def connects(self) -> int:
        """How often it has connected."""

    @property
    @abstractmethod
    def attempts(self) -> int:
        """How often it has tried to connect."""

    def behind(self, targets: Sequence[int], offsets: Sequence[int]) -> bool:
        """Whether it lacks a record below these numbers; offsets: those after these records."""
        return any(map(int.__lt__, self.ledger.next, targets))

    @abstractmethod
    async def bounce(self) -> None:
        """End the connection, so that the client reconnects."""

    async def stop(self) -> None:
        while not self._task.done():
            # Repeated, since wait_for() can swallow a cancellation (CPython before 3.12).
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=_POLL_SECONDS)

    @abstractmethod
    async def _receive(self) -> None:
        """Take all messages; an exception means that the client has ended."""

    async def _watch(self) -> None:
        try:
            await self._receive()
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.ledger.refused = f"{type(error).__name__}: {error} ({place.name}: {place.line})"

    def _corrupt(self, text: str) -> None:
        self.ledger.corrupt.append(text)

    def _heard(self) -> None:
        now = time.monotonic()
        self.silence = max(self.silence, now - self.heard_at)
        self.heard_at = now

    def _take(self, record: dict[str, Any]) -> None:
        self._heard()
        try:
            partition, number = check(record)
        except ValueError as error:
            self._corrupt(str(error))
        else:
            self.ledger.take(partition, number)

    def _take_gap(self, reason: str, missed: int | None, position: str) -> None:
        self._heard()
        try:
            offsets = parse(position).offsets
        except BadPosition:
            self._corrupt(f"a Gap with position {position[:100]!r}")
        else:
            self.ledger.add_gap(reason, missed, offsets)


class Counting(Client):
    """A client that counts its attempts to connect and records when they succeeded."""

    attempts = 0

    def __init__(self, *arguments: Any, connected_at: list[float], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._connected_at = connected_at

    async def _connect(self) -> Any:
        self.attempts += 1
        connection = await super()._connect()
        self._connected_at.append(time.monotonic())
        return connection

    async def bounce(self) -> None:
        if self._connection is not None:
            await self._connection.close()


class WebSocketWatcher(Watcher):
    """url: that of the WebSocket. origin: the position to resume from. options: of its Client."""

    kind = "websocket"

    def __init__(
        self,
        url: str,
        bearer: Callable[[], str],
        origin: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        resume = None if origin is None else {STREAM: origin}
        self._client = Counting(
            url, token=bearer, resume=resume, connected_at=self.connected_at, **options
        )

    @property
    def position(self) -> str | None:
        return self._client.positions.get(STREAM)

    @property
    def connects(self) -> int:
        return self._client.connects

    @property
    def attempts(self) -> int:
        return self._client.attempts

    async def bounce(self) -> None:
        await self._client.bounce()

    async def stop(self) -> None:
        await super().stop()
        await self._client.close()

    async def _receive(self) -> None:
        async for message in self._client:
            if isinstance(message, Gap):
                self._take_gap(message.reason, message.missed, message.position)
            elif isinstance(message, Reading):
                self._take(message.data)


class EventWatcher(Watcher):
    """url: that of the event stream, without a query. origin: the position to resume from.

    keys: those that it asks for, all by default. more: other fields of the query.
    """

    kind = "sse"

    def __init__(
        self,
        url: str,
        bearer: Callable[[], str],
        origin: str | None = None,
        keys: Sequence[str] = (),
        more: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        members = [("resume", origin)] if origin is not None else []
        members += [*(("key", key) for key in keys), *(more or {}).items()]
        self._source = EventSource(f"{url}?{urlencode(members)}" if members else url, bearer)
        self._connects = 0

    @property
    def position(self) -> str | None:
        return self._source.last_event_id or None

    @property
    def connects(self) -> int:
        return self._connects

    @property
    def attempts(self) -> int:
        return self._source.attempts

    async def bounce(self) -> None:
        self._source.drop()

    async def _receive(self) -> None:
        async for event in self._source.events():
            if not event.type:
                self._take_position(event.id)
                continue
            message = orjson.loads(event.data)
            match event.type:
                case "message" | "position":
                    position = message["id"]
                case "snapshot":
                    position = event.id
                case "subscribed":
                    self._connects += 1
                    self.connected_at.append(time.monotonic())
                    # Before the end of a snapshot, there is nothing to resume from but what was.
                    snapshot = "snapshots" in message
                    position = event.id if snapshot else message["positions"][STREAM]["position"]
                case "lagged":
                    position = message["to"]
                case _:
                    continue
            # What the client resumes from must be what the message says.
            if event.id != position:
                self._corrupt(f"an event {event.type} with id {event.id!r}: {position!r}")
            self._take_message(message)

    def _take_position(self, position: str) -> None:
        """An id alone has come."""

    def _take_message(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "data":
                self._take(message["data"])
            case "subscribed":
                self._subscribed(message["positions"][STREAM])
            case _:
                self._take_gap(message["reason"], message["missed"], message["to"])

    def _subscribed(self, state: dict[str, Any]) -> None:
        if state.get("recovered") is False:
            missing = state.get("missing")
            missed = None if missing is None else sum(missing)
            self._take_gap(state["reason"], missed, state["position"])
