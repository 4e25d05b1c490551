"""A real worker, or consumer, of which one part fails once it runs; FAILING names the part."""

from __future__ import annotations

import asyncio
import os

from energyws import flood
from energyws.orders import Shed
from energyws.settings import Auth, Issuer
from workers.bus import Publisher
from workers.consumer import consume
from workers.hub import Hub
from workers.keys import KeyStore
from workers.roster import Roster
from workers.runtime import Child, run
from workers.websocket import serve


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("broken on purpose")


async def broken_task(*_: object) -> None:
    broken()


async def main(child: Child) -> None:
    match os.environ["FAILING"]:
        case "tick":
            Hub.tick = broken  # type: ignore[method-assign]
        case "roster":
            Roster._ping_some = broken  # type: ignore[method-assign]
        case "heartbeat":
            flood.tell_held_back = broken
        case "shed":
            Roster.shed = broken_task  # type: ignore[method-assign,assignment]
            asyncio.get_running_loop().call_later(0.1, child.obey, Shed(1))
        case "order":
            Child.obey = broken  # type: ignore[method-assign]
        case "terminate":
            Child.depart = broken  # type: ignore[method-assign]
        case "keys":
            KeyStore._fetch = broken  # type: ignore[assignment,method-assign]
            issuer = Issuer(name="i", issuer="i", jwks_url="http://127.0.0.1:1/")
            asyncio.get_running_loop().call_later(
                0.1, lambda: KeyStore(Auth(issuers=(issuer,)), lambda: None)
            )
        case "publisher":
            Publisher._beat_now = broken  # type: ignore[method-assign]
    await (consume(child) if child.slot is None else serve(child))


if __name__ == "__main__":
    run(main)
