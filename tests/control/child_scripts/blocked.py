"""A real worker whose event loop hangs half a second after its start."""

from __future__ import annotations

import asyncio
import threading

from workers.runtime import Runtime, run
from workers.websocket.process import serve


def wait_for_nothing() -> None:
    threading.Event().wait()


async def main(runtime: Runtime) -> None:
    asyncio.get_running_loop().call_later(0.5, wait_for_nothing)
    await serve(runtime)


if __name__ == "__main__":
    run(main)
