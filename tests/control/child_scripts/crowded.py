"""A child that claims more clients than its share."""

from __future__ import annotations

from energyws.process.board import Field
from workers.runtime import Runtime, run


async def main(runtime: Runtime) -> None:
    runtime.row[Field.CONNECTIONS] = 100
    runtime.ready()
    await runtime.drain.wait()


if __name__ == "__main__":
    run(main)
