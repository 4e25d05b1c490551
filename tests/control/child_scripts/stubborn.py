"""A child that is told to drain and does not."""

from __future__ import annotations

import asyncio

from workers.runtime import Runtime, run


async def main(child: Runtime) -> None:
    child.ready()
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(main)
