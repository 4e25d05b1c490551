"""`websockets` broadcasting energyws frames, compressed for each client that offers compression.

Run by bench.deflate. It prints its port; for each line "RATE SECONDS" on stdin it broadcasts RATE
messages a second for SECONDS and prints their number. It ends when stdin is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import ssl
import sys
import time

from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.deflate.readings import SIZES, builds
from energyws.protocol.frame import DataFrames


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    options = parser.parse_args()
    context = None
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)
    frames, build, numbers = DataFrames("energy"), builds(options.size), itertools.count()
    connections: set[ServerConnection] = set()

    async def connected(connection: ServerConnection) -> None:
        connections.add(connection)
        await connection.wait_closed()
        connections.discard(connection)

    loop = asyncio.get_running_loop()
    async with serve(connected, "127.0.0.1", 0, ssl=context, ping_interval=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            rate, seconds = map(float, line.split())
            count = int(rate * seconds)
            began = time.monotonic()
            for number in range(count):
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                at = next(numbers)
                record = build(at % 3, at // 3)
                whole = frames.build(
                    time.time_ns() // 1_000_000, record, f"7f3a90c2-{at}.{at}.{at}"
                )
                broadcast(connections, whole[4:].decode())
            print(count, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
