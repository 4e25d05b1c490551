"""The demo without a screen: lines for a pipe, for CI, and for users who prefer them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from energyws.client import Client, Gap, Reading
from energyws.demo.screen.links import Links


async def plain(
    links: Links, token: Callable[[], str], count: int | None, say: Callable[[str], None]
) -> None:
    """Print how to connect, then each reading that a client receives; ends after `count`."""
    say("")
    say(f"  {links.websocket}?token={links.token}")
    say("")
    say(f"the page, with its token: {links.page_with_token}")
    say(f"watch and steer it from another terminal: {links.top}")
    say("one meter only, from another terminal:")
    for line in links.one_meter:
        say(f"  {line}")
    say('connect with any WebSocket client and send {"type":"subscribe","streams":["energy"]};')
    say("these are the readings that a client of ours receives (Ctrl-C ends):")
    readings = 0
    client = Client(links.websocket, token=token, last=1)
    async with contextlib.aclosing(client.messages()) as messages:
        async for message in messages:
            match message:
                case Gap():
                    say(f"  missed {message.missed}: {message.reason}")
                case Reading():
                    say(_line(message))
                    readings += 1
            if readings == count:
                return


def _line(reading: Reading) -> str:
    data = reading.data
    power = data["activeActualConsumption"]["total"]
    serial = data["saveeyeDeviceSerialNumber"]
    return f"  {reading.timestamp}  {serial}  {power:6d} W  {reading.position}"
