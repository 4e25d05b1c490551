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
    StreamState,
    SyncReply,
    SyncRequest,
    pack,
    pack_heads,
    unpack_sync_request,
)
from energyws.stream.ring import Entry, Ring
from workers.bus.rendezvous import endpoint
from workers.bus.socket_reader import SocketReader
from workers.runtime import crash_on_error

REPLY_BYTES: Final = 1 << 20


class Publisher:
    """The sockets of the consumer process. `rings` is shared with the process, which fills it."""

    def __init__(
        self, directory: Path, settings: Bus, streams: Sequence[str], rings: Mapping[str, Ring]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._streams = tuple(streams)
        self._index = {name: index for index, name in enumerate(self._streams)}
        self._rings = rings
        self._run = secrets.randbits(63)
        self._sequence = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._pub = self._context.socket(zmq.PUB)
        self._pub.setsockopt(zmq.LINGER, 0)
        self._pub.setsockopt(zmq.SNDHWM, settings.high_watermark_frames)
        self._pub.bind(endpoint(directory, "frames"))
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self._router.bind(endpoint(directory, "sync"))
        self._paths = tuple(directory / name for name in ("frames", "sync"))
        self._inodes = _inodes(self._paths)
        self._reader = SocketReader(self._loop, self._router, self._on_request)
        self._heartbeat = self._loop.call_soon(self._beat)

    def publish(self, stream: str, entry: Entry) -> None:
        """Send one frame to every worker, in the order of the calls."""
        self._sequence += 1
        index = self._index[stream]
        self._pub.send(pack(_message(index, entry, self._run, self._sequence)), zmq.NOBLOCK)

    def break_run(self) -> None:
        """Start a new run: every worker compares what it has with the rings again."""
        self._run = secrets.randbits(63)
        self._sequence = 0
        self._send_heartbeat()

    def reachable(self) -> bool:
        """Whether the socket files are still the ones that were bound here."""
        return _inodes(self._paths) == self._inodes

    def close(self) -> None:
        """Close the sockets; workers keep what they have."""
        self._heartbeat.cancel()
        self._reader.close()
        self._pub.close()
        self._router.close()
        self._context.term()

    @crash_on_error
    def _beat(self) -> None:
        self._send_heartbeat()
        self._heartbeat = self._loop.call_later(self._settings.heartbeat_seconds, self._beat)

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
        for index, name in enumerate(self._streams):
            ring = self._rings.get(name)
            if ring is None:
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
            frames += [pack(_message(index, entry, self._run, 0)) for entry in entries]
            states[name] = StreamState(ring.floor, ring.head)
        reply = SyncReply(request.ask, self._run, self._sequence, more, states)
        return [reply.pack(), *frames]


def _message(index: int, entry: Entry, run: int, sequence: int) -> BusMessage:
    partition, offset, timestamp_ms, frame = entry
    return BusMessage(FRAME, index, partition, run, sequence, offset, timestamp_ms, frame)


def _inodes(paths: Sequence[Path]) -> list[int | None]:
    return [path.stat().st_ino if path.exists() else None for path in paths]
