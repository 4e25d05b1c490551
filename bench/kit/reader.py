"""A client that measures itself: a script, which the Python of any checkout can run.

    python -P bench/kit/reader.py URL COUNT LAST LOOP

It prints an empty line once it is subscribed, and after COUNT readings the CPU microseconds of its
process per reading, without the first one. LAST: ask for that many, or 0 for new ones only. LOOP:
asyncio or uvloop.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

import uvloop

from energyws.client import Client


async def read(url: str, count: int, last: int) -> float:
    """CPU microseconds per reading."""

    def on_state(state: str, why: str) -> None:
        if state == "live":
            print(flush=True)

    client = Client(url, token=os.environ["WS_TOKEN"], last=last or None, on_state=on_state)
    seen, began = 0, 0.0
    async with client:
        async for _ in client:
            if seen == 0:
                began = time.process_time()
            seen += 1
            if seen == count:
                return (time.process_time() - began) / (count - 1) * 1e6
    raise AssertionError("the client has ended early")


def main() -> None:
    url, count, last, loop = sys.argv[1:]
    reading = read(url, int(count), int(last))
    # None: asyncio's own.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else None) as runner:
        print(runner.run(reading), flush=True)


if __name__ == "__main__":
    main()
