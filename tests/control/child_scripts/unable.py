"""A child that cannot start, and logs why."""

from __future__ import annotations

from energyws.errors import BootError
from workers.runtime import Runtime, run


async def main(runtime: Runtime) -> None:
    raise BootError("the moon is in the wrong phase")


if __name__ == "__main__":
    run(main)
