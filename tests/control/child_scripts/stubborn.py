"""A child that does not leave when it is asked to."""

from __future__ import annotations

import asyncio

from workers.runtime import Runtime, run


async def main(runtime: Runtime) -> None:
    runtime.ready()
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(main)
