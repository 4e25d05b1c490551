"""A child that fails as soon as it runs."""

from __future__ import annotations

from workers.runtime import Runtime, run


async def main(runtime: Runtime) -> None:
    raise RuntimeError("broken on purpose")


if __name__ == "__main__":
    run(main)
