"""The consumer's end of the bus: publishes frames, and answers sync requests from the rings."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import zmq

from energyws.settings import Bus
from energyws.stream.bus_messages import (
    FRAME,
    HEARTBEAT,
    BusMessage,
    KeyRules,
    StreamState,
    SyncReply,
    SyncRequest,
    pack,
    pack_heads,
    unpack_sync_request,
)
from energyws.stream.ring import Entry, Ring
from workers.bus.heartbeats import Heartbeats
from workers.bus.rendezvous import endpoint
from workers.bus.socket_reader import SocketReader
from workers.runtime import crash_on_error

REPLY_BYTES: Final = 1 << 20
# The resolution of the loop's timers: one that is set for less may come before its time.
_TIMER_SECONDS: Final = 0.001
# No key rule is empty.
_NOT_THERE: Final = ""


class Publisher:
    """The sockets of the consumer process. `rings` is shared with the process, which fills it."""

    def __init__(
        self, directory: Path, settings: Bus, rules: KeyRules, rings: Mapping[str, Ring]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._rules = dict(sorted(rules.items()))
        self._index = {name: index for index, name in enumerate(self._rules)}
        self._rings = rings
        self._run = secrets.randbits(63)
        self._sequence = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pub = self._context.socket(zmq.PUB)
        self._pub.setsockopt(zmq.LINGER, 0)
        self._pub.setsockopt(zmq.SNDHWM, settings.high_watermark_frames)
        # Before `bind`, so that no worker connects unnoticed.
        self._monitor = self._pub.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._pub.bind(endpoint(directory, "frames"))
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self._router.bind(endpoint(directory, "sync"))
        self._paths = tuple(directory / name for name in ("frames", "sync"))
        self._inodes = _inodes(self._paths)
        self._reader = SocketReader(self._loop, self._router, self._on_request)
        self._monitor_reader = SocketReader(self._loop, self._monitor, self._on_connected)
        self._heartbeats = Heartbeats(settings.heartbeat_seconds, self._loop.time())
        self._timer = self._loop.call_soon(self._on_timer)
        self._timer_at = self._heartbeats.due

    def publish(self, stream: str, entry: Entry) -> None:
        """Send one frame to every worker, in the order of the calls."""
        self._sequence += 1
        index = self._index[stream]
        self._pub.send(pack(_message(index, entry, self._run, self._sequence)), zmq.NOBLOCK)
        self._heartbeats.published(self._loop.time())
        self._set_timer()

    def head_moved(self) -> None:
        """A ring's head has moved past records that have no frame: tell every worker soon."""
        self._heartbeats.head_moved(self._loop.time())
        self._set_timer()

    def break_run(self) -> None:
        """Start a new run: every worker compares what it has with the rings again."""
        self._run = secrets.randbits(63)
        self._sequence = 0
        self._send_heartbeat()
        self._heartbeats.run_announced(self._loop.time())
        self._set_timer()

    def reachable(self) -> bool:
        """Whether the socket files are still the ones that were bound here."""
        return _inodes(self._paths) == self._inodes

    def close(self) -> None:
        """Close the sockets; workers keep what they have."""
        self._timer.cancel()
        self._monitor_reader.close()
        self._reader.close()
        self._pub.disable_monitor()
        self._monitor.close()
        self._pub.close()
        self._router.close()
        self._context.term()

    @crash_on_error
    def _on_timer(self) -> None:
        now = self._loop.time()
        if now >= self._heartbeats.due:
            self._send_heartbeat()
            self._heartbeats.sent(now)
        self._timer_at = self._heartbeats.due
        pause = max(self._timer_at - now, _TIMER_SECONDS)
        self._timer = self._loop.call_later(pause, self._on_timer)

    def _set_timer(self) -> None:
        # One that comes too early is set again then: so frames in quick succession leave it alone.
        if self._heartbeats.due < self._timer_at:
            self._timer.cancel()
            self._on_timer()

    def _on_connected(self, parts: list[bytes]) -> None:
        self._heartbeats.worker_came(self._loop.time())
        self._set_timer()

    def _send_heartbeat(self) -> None:
        heads = pack_heads({name: ring.head for name, ring in self._rings.items()})
        beat = BusMessage(HEARTBEAT, 0, 0, self._run, self._sequence, 0, 0, heads)
        self._pub.send(pack(beat), zmq.NOBLOCK)

    def _on_request(self, parts: list[bytes]) -> None:
        identity, body = parts
        reply = self._reply(unpack_sync_request(body))
        self._router.send_multipart([identity, *reply], zmq.NOBLOCK)
        self._reader.after_send()

    def _reply(self, request: SyncRequest) -> list[bytes]:
        more = False
        room = REPLY_BYTES
        states: dict[str, StreamState] = {}
        frames: list[bytes] = []
        for name, rule in self._rules.items():
            ring = self._rings.get(name)
            # A worker that does not take frames would ask for them again and again.
            taken = request.rules is None or request.rules.get(name, _NOT_THERE) == rule
            if ring is None or not taken:
                continue
            have = request.have.get(name)
            start = ring.first
            if have is not None and have.epoch == ring.epoch:
                start = ring.locate(have).start
            else:
                have = None
            entries, upto = ring.read(start, ring.end, max(room, 1), have)
            more = more or upto < ring.end
            room -= sum(len(entry.frame) for entry in entries)
            index = self._index[name]
            frames += [pack(_message(index, entry, self._run, 0)) for entry in entries]
            states[name] = StreamState(ring.floor, ring.head)
        reply = SyncReply(request.ask, self._run, self._sequence, more, states, self._rules)
        return [reply.pack(), *frames]


def _message(index: int, entry: Entry, run: int, sequence: int) -> BusMessage:
    partition, offset, timestamp_ms, frame = entry
    return BusMessage(FRAME, index, partition, run, sequence, offset, timestamp_ms, frame)


def _inodes(paths: Sequence[Path]) -> list[int | None]:
    return [path.stat().st_ino if path.exists() else None for path in paths]
