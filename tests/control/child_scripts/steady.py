"""A child that becomes ready and waits to be drained."""

from __future__ import annotations

from energyws.process.board import Field
from workers.runtime import Runtime, run


async def main(child: Runtime) -> None:
    child.row[Field.BROKER_UP] = 1
    child.row[Field.CONNECTIONS] = 7
    child.ready()
    await child.drain.wait()


if __name__ == "__main__":
    run(main)
