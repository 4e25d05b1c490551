"""A TCP proxy that tests break on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Final, Self, TypeVar

_CHUNK: Final = 65536
# SO_LINGER with no time to linger: close() sends RST instead of FIN.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

_Result = TypeVar("_Result")


class TcpProxy:
    """Forwards 127.0.0.1:`port` to a target; every method is synchronous.

    A Kafka client connects to the address that its broker advertises: unless that is the proxy's,
    only the bootstrap connection goes through the proxy.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._relays: set[asyncio.Task[None]] = set()
        self._listener = _bind(0)
        self.port: int = self._listener.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="TcpProxy")
        self._thread.start()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._run(self._restore())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """The number of clients that are connected through the proxy."""
        return len(self._relays)

    def cut(self) -> None:
        """Reset every connection and refuse new ones, as a host does whose server has died."""
        self._run(self._cut())

    def restore(self) -> None:
        """Accept connections again, on the same port."""
        self._run(self._restore())

    def blackhole(self, on: bool) -> None:
        """Stop forwarding, without a FIN or RST; False: continue where it stopped.

        The kernel still acknowledges what the proxy receives, so TCP_USER_TIMEOUT has no effect.
        """
        self._run(self._blackhole(on))

    def retarget(self, host: str, port: int) -> None:
        """Forward new connections to another target."""
        self._target = (host, port)

    def close(self) -> None:
        """Reset every connection and end the proxy; a second call does nothing."""
        if self._loop.is_closed():
            return
        self._run(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    def _run(self, work: Coroutine[None, None, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _restore(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accepted, sock=self._listener)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            # Bound but not listening: the port stays taken, and refuses connections.
            self._listener = _bind(self.port)
        relays = list(self._relays)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _blackhole(self, on: bool) -> None:
        if on:
            self._flowing.clear()
        else:
            self._flowing.set()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            # Accepted at the moment of the cut.
            _reset(writer)
            return
        relay = asyncio.current_task()
        assert relay is not None
        self._relays.add(relay)
        writers = [writer]
        try:
            await self._flowing.wait()
            target_reader, target_writer = await asyncio.open_connection(*self._target)
            writers.append(target_writer)
            async with asyncio.TaskGroup() as both_ways:
                both_ways.create_task(self._pump(reader, target_writer))
                both_ways.create_task(self._pump(target_reader, writer))
        except* (OSError, asyncio.CancelledError):
            for each in writers:
                _reset(each)
        finally:
            self._relays.discard(relay)
            for each in writers:
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            await self._flowing.wait()
            writer.write(chunk)
            await writer.drain()
        await self._flowing.wait()
        with contextlib.suppress(OSError):
            writer.write_eof()


def _bind(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.setblocking(False)
    return listener


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.transport.is_closing():
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
