"""Pictures of `energyws demo`: its real screen after a worker was killed, as SVG.

    python -m bench.demo.picture --out docs/demo

Writes NAME-dark.svg and NAME-light.svg. Not a measurement. See bench.screenshot.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import sys
import time
from pathlib import Path
from typing import Final

from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME

from bench.screenshot import svg
from energyws.auth.verifier import mint
from energyws.demo.meter import household
from energyws.demo.parts import Plan, running
from energyws.demo.ports import free_port
from energyws.demo.screen.crowd import crowd
from energyws.demo.screen.links import Links
from energyws.demo.screen.model import Model
from energyws.demo.screen.picture import Picture, screen
from energyws.demo.screen.show import sample
from energyws.demo.workspace import workspace
from energyws.settings import Admin

THEMES: Final = {"dark": SVG_EXPORT_THEME, "light": DEFAULT_TERMINAL_THEME}
_TOKEN_SECONDS: Final = 600
# For the clients to resume, and for the figures of the new worker's start to be over.
_SETTLE_SECONDS: Final = 8.0


async def drawn(clients: int, seconds: float, port: int) -> Picture:
    """The contents of the screen of a demo that has run for some seconds, then lost a worker."""
    secret = secrets.token_hex(32)
    loop = asyncio.get_running_loop()
    plan = Plan(3, 2, "127.0.0.1", free_port("127.0.0.1", port), Admin().port, secret)
    model = Model(clients, loop.time())

    def token() -> str:
        return mint(secret, "demo", _TOKEN_SECONDS, time.time())

    with workspace(print, logging_to_file=True) as (directory, log):
        assert log is not None
        async with running(plan, directory, log, print) as parts, asyncio.TaskGroup() as group:
            links = Links(
                *("127.0.0.1", parts.port, parts.admin_port, token(), directory / "token"),
                command=".venv/bin/energyws",
                meter=household(1)[0].serial,
            )
            helpers = [
                group.create_task(crowd(links.websocket, token, clients, model)),
                group.create_task(sample(parts.admin_port, model)),
            ]
            await asyncio.sleep(seconds)
            victim = model.victims()[0]
            assert victim.pid is not None
            assert parts.kill_worker(victim.pid)
            model.kill(victim, loop.time(), time.time())
            await asyncio.sleep(_SETTLE_SECONDS)
            picture = Picture(model.view(loop.time(), time.time()), links, log.name)
            assert picture.view.kills[-1].is_over, "this machine is too busy for a picture"
            for helper in helpers:
                helper.cancel()
    return picture


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=90.0, help="before the worker is killed")
    parser.add_argument("--port", type=int, default=8080, help="the next free one is taken")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--lines", type=int, default=24)
    parser.add_argument("--out", required=True, metavar="NAME", help="without -dark.svg")
    options = parser.parse_args()
    picture = asyncio.run(drawn(options.clients, options.seconds, options.port))
    size = options.columns, options.lines
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    for name, theme in THEMES.items():
        made = svg(screen(picture, *size), *size, title="energyws demo", theme=theme)
        Path(f"{options.out}-{name}.svg").write_text(made)
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
