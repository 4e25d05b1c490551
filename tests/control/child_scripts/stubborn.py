"""A child that ignores the order to shut down."""

from __future__ import annotations

import asyncio

from workers.runtime import Runtime, run


async def main(runtime: Runtime) -> None:
    runtime.ready()
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(main)
