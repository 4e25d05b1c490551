"""A child that becomes ready and then blocks its event loop for ever."""

from __future__ import annotations

import time

from workers.runtime import Runtime, run


async def main(runtime: Runtime) -> None:
    runtime.ready()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    run(main)
