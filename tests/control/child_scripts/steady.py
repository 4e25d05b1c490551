"""A child that becomes ready and waits to be drained."""

from __future__ import annotations

from energyws.process.board import Field
from workers.runtime import Runtime, run


async def main(runtime: Runtime) -> None:
    runtime.row[Field.BROKER_UP] = 1
    runtime.row[Field.CONNECTIONS] = 7
    runtime.ready()
    await runtime.drain.wait()


if __name__ == "__main__":
    run(main)
