"""A real worker or consumer; the part that the variable FAILING names fails."""

from __future__ import annotations

import asyncio
import os

from energyws.logs import rate_limit
from energyws.process.control_messages import Shed
from energyws.settings import Auth, Issuer
from workers.bus.publisher import Publisher
from workers.consumer.process import consume
from workers.runtime import Runtime, run
from workers.websocket.auth.keys import KeyStore
from workers.websocket.clients.connections import ConnectionRegistry
from workers.websocket.fanout.hub import Hub
from workers.websocket.process import serve


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("broken on purpose")


async def broken_task(*_: object) -> None:
    broken()


async def main(runtime: Runtime) -> None:
    match os.environ["FAILING"]:
        case "tick":
            Hub.tick = broken  # type: ignore[method-assign]
        case "pings":
            ConnectionRegistry._ping_some = broken  # type: ignore[method-assign]
        case "heartbeat":
            rate_limit.flush_suppressed = broken
        case "shed":
            ConnectionRegistry.shed = broken_task  # type: ignore[method-assign,assignment]
            asyncio.get_running_loop().call_later(0.1, runtime.obey, Shed(1))
        case "message":
            Runtime.obey = broken  # type: ignore[method-assign]
        case "terminate":
            Runtime.shut_down = broken  # type: ignore[method-assign]
        case "keys":
            KeyStore._fetch = broken  # type: ignore[assignment,method-assign]
            issuer = Issuer(name="i", issuer="i", jwks_url="http://127.0.0.1:1/")
            asyncio.get_running_loop().call_later(
                0.1, lambda: KeyStore(Auth(issuers=(issuer,)), runtime.bus_directory)
            )
        case "publisher":
            Publisher._send_heartbeat = broken  # type: ignore[method-assign]
    await (consume(runtime) if runtime.slot is None else serve(runtime))


if __name__ == "__main__":
    run(main)
