"""Subscribe requests on their way to a fan-out.

Some wait for their topics, for the log, or for snapshots.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from energyws.errors import BAD_MESSAGE
from energyws.protocol.messages import BadClientMessage, Subscribe
from energyws.protocol.position import MAX_TEXT_LENGTH
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import StartPoint
from energyws.stream.recovery import history_request, recovers, within_scan
from workers.runtime import crash_on_error
from workers.websocket.fanout.fanouts import Fanouts
from workers.websocket.fanout.history_client import HistoryClient
from workers.websocket.fanout.subscription import FanoutClient
from workers.websocket.fanout.turns import Turns
from workers.websocket.snapshots.client import Snapshot, SnapshotClient
from workers.websocket.snapshots.feed import Feed

# The characters of positions that one client's pending requests may hold: twice the longest.
MAX_TEXT: Final = 2 * MAX_TEXT_LENGTH

# How often a client may request a starting point in a stream, and how many times at once. An honest
# client does so once a connection; an answer costs the consumer far more than a message.
SECONDS_PER_REQUEST: Final = 1.0
BURST_OF_REQUESTS: Final = 3
# The same for all HTTP requests of one subject together, each of which is a client of its own.
SECONDS_PER_HTTP_REQUEST: Final = 0.1
# How soon a snapshot is asked for again that is of another epoch than the ring.
EPOCH_SECONDS: Final = 0.25
# Subjects whose HTTP requests are paid for are forgotten when there are more than this.
MOST_SUBJECTS: Final = 1_000


@dataclass(slots=True)
class PendingRequest:
    """A request whose streams are not served yet, or that waits for the log or for snapshots.

    asked: the log has been asked for what the rings lack; wanted: the streams whose answers are
    missing; found: the answers; feeds: the snapshots.
    """

    request: Subscribe
    asked: bool = False
    wanted: set[str] = field(default_factory=set)
    found: dict[str, StartPoint] = field(default_factory=dict)
    feeds: dict[str, Feed] = field(default_factory=dict)

    def drop(self, gone: set[str]) -> None:
        """Take these streams out of the request."""
        request = self.request
        if gone.isdisjoint(request.streams):
            return
        self.request = replace(
            request,
            streams=tuple(name for name in request.streams if name not in gone),
            resume={name: text for name, text in request.resume.items() if name not in gone},
        )
        self.wanted -= gone

    def text(self) -> int:
        """The number of characters of its positions."""
        return sum(map(len, self.request.resume.values()))


class HistoryRateLimit:
    """How soon a client may ask the log again: a leaky bucket for each client and stream.

    A bucket is one number: when the requests so far will be paid for, at SECONDS_PER_REQUEST each.
    The clients of HTTP requests share those of their subject.
    """

    def __init__(self) -> None:
        self._until: dict[FanoutClient, dict[str, float]] = {}
        self._of_subjects: dict[str, dict[str, float]] = {}

    def ask(self, client: FanoutClient, streams: Iterable[str], now: float) -> float:
        """0: the client may ask now; else the seconds until it may. now: monotonic seconds."""
        seconds = SECONDS_PER_HTTP_REQUEST if client.form.ends else SECONDS_PER_REQUEST
        before = self._bucket(client, now)
        after = {name: max(before.get(name, now), now) + seconds for name in streams}
        wait = max(after.values()) - now - BURST_OF_REQUESTS * SECONDS_PER_REQUEST
        if wait > 0:
            return wait
        before |= after
        return 0.0

    def _bucket(self, client: FanoutClient, now: float) -> dict[str, float]:
        if not client.form.ends:
            return self._until.setdefault(client, {})
        subjects = self._of_subjects
        if client.subject not in subjects and len(subjects) >= MOST_SUBJECTS:
            self._of_subjects = subjects = {
                subject: until
                for subject, until in subjects.items()
                if max(until.values(), default=now) > now
            }
        return subjects.setdefault(client.subject, {})

    def forget(self, client: FanoutClient) -> None:
        self._until.pop(client, None)


class WaitingRequests:
    """Of all clients of a worker. held: old records are being handed over, so all requests wait.

    max_scan_records: how many records may be read for a subscription to some keys. snapshots: None
    where no stream has any.
    """

    def __init__(
        self,
        fanouts: Fanouts,
        log: HistoryClient,
        turns: Turns,
        max_scan_records: int,
        snapshots: SnapshotClient | None = None,
    ) -> None:
        self.held = False
        self._max_scan_records = max_scan_records
        self._loop = asyncio.get_running_loop()
        self._fanouts = fanouts
        self._log = log
        self._turns = turns
        self._snapshots = snapshots
        # In order; only the first one of each client is worked on.
        self._pending: dict[FanoutClient, deque[PendingRequest]] = {}
        self._rate_limit = HistoryRateLimit()
        # Clients that have asked the log too often, until they may ask again.
        self._limited: dict[FanoutClient, asyncio.TimerHandle] = {}

    def close(self) -> None:
        for timer in self._limited.values():
            timer.cancel()

    def add(self, client: FanoutClient, request: Subscribe) -> None:
        """Subscribe a client, as soon as that is possible.

        Replaces requests for the same streams. Raises BadClientMessage for a client that requests
        more and more without waiting for an answer.
        """
        self._withdraw(client, set(request.streams))
        pending = self._pending.setdefault(client, deque())
        pending.append(PendingRequest(request))
        if len(pending) > 1 and sum(each.text() for each in pending) > MAX_TEXT:
            pending.pop()
            raise BadClientMessage(BAD_MESSAGE, "too many subscriptions wait for their answers")
        self._proceed(client)

    def withdraw(self, client: FanoutClient, streams: set[str]) -> None:
        """Take these streams out of a client's requests."""
        self._withdraw(client, streams)
        self._proceed(client)

    def leave(self, client: FanoutClient) -> None:
        self._rate_limit.forget(client)
        if (timer := self._limited.pop(client, None)) is not None:
            timer.cancel()
        for pending in self._pending.pop(client, ()):
            for name in pending.wanted:
                self._log.withdraw(client, name)

    def ask_again(self) -> None:
        """A stream has another epoch: what was answered is void."""
        for pending in self._pending.values():
            # They are asked once everything has been handed over.
            pending[0].asked = False
            pending[0].found.clear()
            pending[0].feeds.clear()

    def release(self) -> None:
        """Everything has been handed over."""
        self.held = False
        for client in list(self._pending):
            self._proceed(client)

    def _withdraw(self, client: FanoutClient, gone: set[str]) -> None:
        pending = self._pending.get(client)
        if pending is None:
            return
        left: deque[PendingRequest] = deque()
        for each in pending:
            for name in each.wanted & gone:
                self._log.withdraw(client, name)
            if not gone.issuperset(each.request.streams):
                each.drop(gone)
                left.append(each)
        if left:
            self._pending[client] = left
        else:
            del self._pending[client]

    def _proceed(self, client: FanoutClient) -> None:
        """Answer what can be answered of a client's requests, in order."""
        now = time.monotonic()
        pending = self._pending.get(client)
        while pending and not self.held:
            first = pending[0]
            request = first.request
            if not self._fanouts.serves(request.streams):
                return
            if not first.asked and not self._ask(client, first, now):
                client.history_unavailable()
                return
            if not first.asked or first.wanted:
                return
            if request.snapshot and self._want_snapshots(client, first):
                return
            pending.popleft()
            found, feeds = first.found, first.feeds
            client.subscribed(
                {
                    name: self._fanouts.subscribe(
                        name, client, request, found.get(name), now, feeds.get(name)
                    )
                    for name in request.streams
                }
            )
            self._turns.schedule()
        if not pending:
            self._pending.pop(client, None)

    def _ask(self, client: FanoutClient, pending: PendingRequest, now: float) -> bool:
        """Ask the log for what the rings lack, now or later; False: its queue is full."""
        request = pending.request
        back = [name for name in request.streams if request.wants_history(name)]
        if (back or request.snapshot) and client in self._limited:
            # It has asked too often: even parsing its positions has to wait.
            self._suspend(client, back)
            return True
        lacking = {
            name: find
            for name in back
            if (find := history_request(name, self._fanouts.plain[name].ring, request)) is not None
        }
        asking = request.streams if request.snapshot else lacking
        self._suspend(client, asking)
        if asking and (wait := self._rate_limit.ask(client, asking, now)) > 0:
            self._limited[client] = self._loop.call_later(wait, self._ask_later, client)
            return True
        pending.asked = True
        pending.wanted = set(lacking)
        for name, find in lacking.items():
            try:
                self._log.find(client, find, partial(self._on_found, client, pending, name))
            except QueueFull:
                return False
        return True

    def _want_snapshots(self, client: FanoutClient, pending: PendingRequest) -> bool:
        """Ask for the snapshots that come first; whether there are any to wait for."""
        request = pending.request
        for name in request.streams:
            ring, keys = self._fanouts.plain[name].ring, request.filters.get(name)
            if name not in pending.feeds and not (
                name in request.resume
                and recovers(name, ring, request, pending.found.get(name), keys)
            ):
                pending.wanted.add(name)
        for name in [each for each in request.streams if each in pending.wanted]:
            self._find_snapshot(client, pending, name)
        return bool(pending.wanted)

    def _find_snapshot(self, client: FanoutClient, pending: PendingRequest, name: str) -> None:
        assert self._snapshots is not None
        done = partial(self._on_snapshot, client, pending, name)
        keys = pending.request.filters.get(name)
        self._snapshots.find(name, keys, client.subject, done)

    def _on_snapshot(
        self, client: FanoutClient, pending: PendingRequest, name: str, found: Snapshot | None
    ) -> None:
        if not self._waits_for(client, pending, name):
            return
        if found is None:
            client.history_unavailable()
        elif found.state.position.epoch != self._fanouts.plain[name].ring.epoch:
            # The consumer has found another topic, and this worker is about to learn of it; or it
            # has already, and the consumer that answered is the one before.
            self._loop.call_later(EPOCH_SECONDS, self._find_again, client, pending, name)
        else:
            assert self._snapshots is not None
            pending.feeds[name] = Feed(self._snapshots, found, client.subject, self._turns.schedule)
            pending.wanted.discard(name)
            self._proceed(client)

    @crash_on_error
    def _find_again(self, client: FanoutClient, pending: PendingRequest, name: str) -> None:
        if self._waits_for(client, pending, name):
            self._find_snapshot(client, pending, name)

    def _waits_for(self, client: FanoutClient, pending: PendingRequest, name: str) -> bool:
        requests = self._pending.get(client)
        return requests is not None and requests[0] is pending and name in pending.wanted

    def _suspend(self, client: FanoutClient, streams: Iterable[str]) -> None:
        """End the old subscriptions: a client has none while it waits for the log."""
        for name in streams:
            self._fanouts.leave(name, client)

    @crash_on_error
    def _ask_later(self, client: FanoutClient) -> None:
        del self._limited[client]
        self._proceed(client)

    def _on_found(
        self, client: FanoutClient, pending: PendingRequest, name: str, found: StartPoint | None
    ) -> None:
        if not self._waits_for(client, pending, name):
            return
        if found is None:
            client.history_unavailable()
            return
        if name in pending.request.filters:
            head = self._fanouts.plain[name].ring.head
            found = within_scan(found, head, self._max_scan_records)
        pending.found[name] = found
        pending.wanted.discard(name)
        self._proceed(client)
