"""A child that becomes ready and then computes for ever, in its event loop."""

from __future__ import annotations

from workers.runtime import Runtime, run


async def main(runtime: Runtime) -> None:
    runtime.ready()
    while True:
        pass


if __name__ == "__main__":
    run(main)
