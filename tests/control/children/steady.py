"""A child that becomes ready and waits to be drained."""

from __future__ import annotations

from energyws.board import Field
from workers.runtime import Child, run


async def main(child: Child) -> None:
    child.row[Field.BROKER_UP] = 1
    child.row[Field.CONNECTIONS] = 7
    child.ready()
    await child.drain.wait()


if __name__ == "__main__":
    run(main)
