"""A child that says that it has more clients than its share."""

from __future__ import annotations

from energyws.board import Field
from workers.runtime import Child, run


async def main(child: Child) -> None:
    child.row[Field.CONNECTIONS] = 100
    child.ready()
    await child.drain.wait()


if __name__ == "__main__":
    run(main)
