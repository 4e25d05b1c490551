"""The worker process: bus to hub to sessions, on the slot's listening socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

from energyws.auth import Verifier
from energyws.board import Field
from energyws.errors import BootError
from energyws.settings import Tls
from workers.bus import Subscriber
from workers.handshake import Gate, max_descriptor
from workers.hub import Hub
from workers.keys import KeyStore
from workers.listener import Listener
from workers.roster import Roster
from workers.runtime import Child, run
from workers.session import Context
from workers.upkeep import Upkeep

TICK_SECONDS: Final = 1.0


def tls_context(tls: Tls) -> ssl.SSLContext:
    """TLS 1.2 and later, HTTP/1.1 only; raises BootError for a pair that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # OpenSSL writes to the socket itself. Through buffers of aiofastnet's own, a TLS record each
    # way, a connection costs 20 to 30 KiB more; where the attribute is not known, it does.
    context._aiofastnet_force_socket_bio = True  # type: ignore[attr-defined]
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except OSError as error:
        raise BootError(
            f"server.tls: {tls.cert} and {tls.key} cannot be used as certificate and key: {error}"
        ) from None
    return context


async def serve(child: Child) -> None:
    """Serve until told to drain, then until the last client is gone."""
    settings = child.settings
    assert child.listen_fd is not None
    tls = None if settings.server.tls is None else tls_context(settings.server.tls)
    listening = socket.socket(fileno=child.listen_fd)
    keys = KeyStore(settings.auth)
    roster = Roster(settings.server, settings.auth)
    synced = asyncio.Event()
    hub = Hub(settings.streams, settings.history, child.bus_directory, child.row, synced.set)
    context = Context(settings.server, hub, roster, Verifier(settings.auth), keys, child.row)
    gate = Gate(context, settings.auth, child.board)
    listener = Listener(listening, settings.server, tls, gate.answer, max_descriptor())
    subscriber = Subscriber(
        child.bus_directory,
        settings.bus,
        sorted(settings.streams),
        hub,
        lambda: child.row.add(Field.RESYNCS),
    )
    upkeep = Upkeep()
    ticking = asyncio.create_task(_tick(hub, upkeep, roster))
    drained = asyncio.create_task(child.drain.wait())
    try:
        # Whoever is let in before that would resume from an empty ring.
        ready = asyncio.create_task(synced.wait())
        await asyncio.wait({ready, drained}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        upkeep.begin()
        listener.start()
        if not drained.done():
            child.ready()
        await drained
        gate.draining = True
        await roster.drain(settings.server.drain_seconds)
    finally:
        ticking.cancel()
        listener.stop()
        subscriber.close()
        hub.close()
        roster.close()
        keys.close()


async def _tick(hub: Hub, upkeep: Upkeep, roster: Roster) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        hub.tick()
        upkeep.tick(len(roster))


if __name__ == "__main__":
    run(serve)
