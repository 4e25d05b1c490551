"""The worker process: from the bus through the hub to sessions, on the slot's listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

from energyws.auth.verifier import Verifier
from energyws.dashboard import files
from energyws.dashboard.site import Site
from energyws.errors import BootError
from energyws.logs.events import Log
from energyws.process.board import Field
from energyws.process.cgroup import MemoryGroups
from energyws.process.control_messages import ShutdownMode
from energyws.protocol.http.client_address import TrustedProxies
from energyws.settings import Settings
from energyws.stream.record_key import key_rules
from workers.bus.rendezvous import current
from workers.bus.subscriber import Subscriber
from workers.runtime import Runtime, crash_on_error, crash_on_error_task
from workers.websocket.accept.arrivals import Arrivals
from workers.websocket.accept.handshake import Gate, max_descriptor
from workers.websocket.accept.listener import Listener
from workers.websocket.accept.tls_context import TlsContexts
from workers.websocket.auth.deny_file import DenyFile
from workers.websocket.auth.key_access import KeyAccess
from workers.websocket.auth.tokens import Tokens
from workers.websocket.certificate import expires_at
from workers.websocket.clients.connections import ConnectionRegistry
from workers.websocket.clients.context import Context
from workers.websocket.clients.distrust import Distrust
from workers.websocket.fanout.history_client import HistoryClient
from workers.websocket.fanout.hub import Hub
from workers.websocket.io_uring.choice import Choice
from workers.websocket.memory import MemoryUpkeep
from workers.websocket.pace import Pace
from workers.websocket.shares import Shares
from workers.websocket.shedding import Shedding
from workers.websocket.snapshots.client import SnapshotClient

TICK_SECONDS: Final = 1.0
# A connection that was half open when its slot was retired may need this long: its last packet was
# lost, and is sent again after a second (RFC 6298).
QUEUE_SECONDS: Final = 3.0

_log = Log("worker")


class Worker:
    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        assert runtime.slot is not None
        assert runtime.listen_fd is not None
        self._runtime = runtime
        self._keys_claim = settings.auth.keys_claim
        self._loop = asyncio.get_running_loop()
        self._synced = asyncio.Event()
        self._has_keys = asyncio.Event()
        self._queue_handed_over = asyncio.Event()
        self._reading_denied = asyncio.Lock()
        # Before anything that runs: it may raise BootError.
        # For all workers, the first one logs what concerns TLS.
        self._tls = TlsContexts(quiet=runtime.slot != 0)
        tls = self._tls.make(settings.server.tls)
        runtime.row[Field.CERTIFICATE_EXPIRES] = expires_at(settings.server.tls)
        self._deny_file = DenyFile(runtime.bus_directory)
        denied = self._deny_file.read(settings.auth)
        keyed_streams = [name for name, each in settings.streams.items() if each.key is not None]
        self._keyed = bool(keyed_streams)
        self._tokens = Tokens(
            settings.auth,
            runtime.row,
            runtime.bus_directory,
            self._on_keys_changed,
            keyed=self._keyed,
        )
        self._tokens.denied = denied
        self._connections = ConnectionRegistry(settings.server, settings.auth)
        self._distrust = Distrust(
            self._connections,
            self._tokens.fault,
            lambda: runtime.settings.server.drain_seconds,
        )
        bus = current(runtime.bus_directory)
        rules = key_rules(settings.streams)
        self._history = HistoryClient(bus, settings.history.max_concurrent, rules)
        waits = {
            name: stream.snapshot.wait_seconds
            for name, stream in settings.streams.items()
            if stream.snapshot.enabled
        }
        self._snapshots = SnapshotClient(bus, waits, rules) if waits else None
        self._io_uring = Choice(settings.server, runtime.row)
        row, board = runtime.row, runtime.board
        self._shares = Shares(board.usage(row.index), row, settings.limits)
        self._pace = Pace(self._shares)
        self._hub = Hub(
            settings.streams,
            settings.history,
            self._history,
            runtime.row,
            self._synced.set,
            self._io_uring.queue,
            self._pace,
            keyed_streams,
            settings.server.position_seconds,
            self._snapshots,
        )
        self._context = Context(
            settings.server,
            self._hub,
            self._connections,
            self._tokens,
            runtime.row,
            self._shares,
            KeyAccess(settings.streams, self._shares, runtime.row),
        )
        proxies = TrustedProxies(settings.server.trusted_proxies)
        self._arrivals = Arrivals(self._shares, runtime.board, settings.server, proxies)
        self._gate = Gate(self._context, settings.auth, runtime.board, proxies=proxies)
        if settings.server.dashboard:
            self._gate.site = Site(files.read())
            self._context.worker = {"slot": runtime.slot, "pid": os.getpid()}
        self._listener = Listener(
            socket.socket(fileno=runtime.listen_fd),
            settings.server,
            tls,
            self._gate,
            max_descriptor(),
            runtime.row,
            self._arrivals,
        )
        self._subscriber = Subscriber(
            bus,
            settings.bus,
            rules,
            self._hub,
            lambda: runtime.row.add(Field.RESYNCS),
        )
        self._memory = MemoryUpkeep()
        self._shedding = Shedding(
            self._connections, self._listener.unread, board, row, MemoryGroups()
        )
        self._tasks = {crash_on_error_task(self._tick())}
        runtime.on_shutdown = self._on_shutdown
        runtime.on_shed = self._on_shed
        runtime.on_settings = self._on_settings
        runtime.on_ticket_keys = self._tls.use_keys

    async def serve(self) -> None:
        """Serve until the supervisor ends it, and then until the last client is gone."""
        runtime = self._runtime
        leaving = asyncio.create_task(runtime.drain.wait())
        # A client that connected earlier would resume from an empty ring.
        ready = asyncio.create_task(self._synced.wait())
        await asyncio.wait({ready, leaving}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        self._memory.begin()
        self._publish_keys()
        # Without any keys it refuses every client. While it is not ready, new clients go to other
        # workers, and a rolling restart keeps its predecessor.
        has_keys = asyncio.create_task(self._has_keys.wait())
        if runtime.successor:
            # Its predecessor, which may have keys, accepts on the same socket.
            await asyncio.wait({has_keys, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if runtime.shutdown_mode is not ShutdownMode.HANDOVER:
            # Also when it is to leave already: connections may wait in the queue.
            self._listener.start()
        await asyncio.wait({has_keys, leaving}, return_when=asyncio.FIRST_COMPLETED)
        has_keys.cancel()
        if not leaving.done():
            runtime.ready()
        await leaving
        await self._leave()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._listener.close()
        self._subscriber.close()
        self._hub.close()
        self._history.close()
        if self._snapshots is not None:
            self._snapshots.close()
        self._distrust.close()
        self._connections.close()
        self._tokens.close()

    async def _leave(self) -> None:
        runtime = self._runtime
        queue_empty_at = self._loop.time() + QUEUE_SECONDS
        await self._connections.drain(runtime.settings.server.drain_seconds)
        with contextlib.suppress(TimeoutError):
            left = max(0.0, queue_empty_at - self._loop.time())
            await asyncio.wait_for(self._queue_handed_over.wait(), left)
        if runtime.shutdown_mode is ShutdownMode.STOP:
            # New connections are refused all the while.
            await self._listener.flushed(runtime.settings.server.close_timeout_seconds)
        else:
            # Accepted connections become clients before they are sent away: they are not refused.
            self._listener.stop()
            await self._listener.settled()
            await self._connections.drain(0.0)

    def _on_shutdown(self, mode: ShutdownMode) -> None:
        self._gate.leaving = True
        if mode is not ShutdownMode.RETIRE:
            self._queue_handed_over.set()
        if mode is ShutdownMode.STOP:
            self._gate.draining = True
        elif mode is ShutdownMode.HANDOVER:
            self._listener.stop()

    def _on_shed(self, count: int) -> None:
        _log.info("shedding clients", count=count, of=len(self._connections))
        seconds = self._runtime.settings.server.drain_seconds
        self._start(self._connections.shed(count, seconds))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = crash_on_error_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_settings(self, settings: Settings) -> None:
        # The keys in a token go with the key rule of a stream, which is a new worker's, too.
        auth = replace(settings.auth, keys_claim=self._keys_claim)
        verifier = Verifier(auth, keyed=self._keyed)
        # Last of what may raise BootError: its keys are renewed from here on.
        tls = self._tls.make(settings.server.tls)
        self._listener.use_settings(settings.server, tls)
        self._runtime.row[Field.CERTIFICATE_EXPIRES] = expires_at(settings.server.tls)
        self._connections.use_settings(settings.server, auth)
        self._io_uring.use_settings(settings.server)
        self._tokens.use_settings(auth, verifier)
        self._gate.auth = auth
        self._shares.limits = settings.limits
        proxies = TrustedProxies(settings.server.trusted_proxies)
        self._gate.proxies = self._arrivals.proxies = proxies
        self._context.settings = settings.server
        self._use_keys()
        self._start(self._use_denied())

    async def _use_denied(self) -> None:
        # One at a time, so that the one that began last is the last.
        async with self._reading_denied:
            auth = self._runtime.settings.auth
            try:
                self._tokens.denied = await self._deny_file.read_in_slices(auth)
            except BootError as error:
                _log.error("deny list not read: earlier entries stay", reason=error)
        self._distrust.look()

    def _on_keys_changed(self) -> None:
        # Runs in the thread that fetches, which may outlive the loop by a moment.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._use_keys)

    @crash_on_error
    def _use_keys(self) -> None:
        self._publish_keys()
        self._distrust.look()

    def _publish_keys(self) -> None:
        if self._tokens.publish():
            self._has_keys.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._pace.tick()
            self._hub.tick()
            self._io_uring.tick()
            self._shares.tick()
            if self._deny_file.changed():
                self._start(self._use_denied())
            self._shedding.tick(self._context.settings.shed_at_memory_percent)
            self._gate.short_of_memory = self._shedding.refuses
            clients, listener = len(self._connections), self._listener
            self._memory.tick(clients + listener.waiting, clients + listener.most_waiting())


async def serve(runtime: Runtime) -> None:
    worker = Worker(runtime)
    try:
        await worker.serve()
    finally:
        worker.close()
