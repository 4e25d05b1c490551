"""`energyws demo`: an embedded broker, simulated meters, the real service, and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from energyws.auth.verifier import mint
from energyws.demo.announcement import announced
from energyws.demo.meter import household
from energyws.demo.parts import Parts, Plan, running
from energyws.demo.plain import plain
from energyws.demo.ports import free_port, local_address, outside_address
from energyws.demo.screen.links import Links
from energyws.demo.screen.live import is_possible
from energyws.demo.screen.show import Show
from energyws.demo.workspace import workspace
from energyws.errors import ExitCode
from energyws.settings import Admin

TOKEN_SECONDS: Final = 86_400
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """port: 0 for any; where it is taken, the next free one. clients: those of the screen.

    count: end after that many readings. plain: lines, also in a terminal.
    """

    meters: int = 3
    workers: int = 2
    host: str = "127.0.0.1"
    port: int = 8080
    clients: int = 20
    count: int | None = None
    plain: bool = False


class Demo:
    """`say` prints one line."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._secret = secrets.token_hex(32)
        self._console = Console(highlight=False)
        self._on_screen = options.count is None and not options.plain and is_possible(self._console)

    async def run(self) -> int:
        """Run until the user ends it; the exit code. Leaves no process behind."""
        received: list[signal.Signals] = []
        task = asyncio.current_task()
        assert task is not None

        def end(number: signal.Signals) -> None:
            received.append(number)
            task.cancel()

        loop = asyncio.get_running_loop()
        for number in _ENDING:
            # Also where it is ignored by inheritance, as Ctrl-C's is in a background job of a
            # script; but whoever starts the demo with nohup wants it to outlive the terminal.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, end, number)
        try:
            await self._run()
        except asyncio.CancelledError:
            if not received:
                raise
        if received and received[0] is not signal.SIGINT:
            return 128 + received[0]
        return ExitCode.OK

    async def _run(self) -> None:
        options = self._options
        port = free_port(options.host, options.port)
        remarks = []
        if port != options.port:
            remarks.append(f"port {options.port} is taken, so this demo uses {port}")
            self._say(remarks[0])
        plan = Plan(
            options.meters, options.workers, options.host, port, self._admin_port(), self._secret
        )
        with workspace(self._say, logging_to_file=self._on_screen) as (directory, log):
            async with running(plan, directory, log, self._say) as parts:
                links = self._links(parts, directory)
                with announced(parts.admin_port):
                    if log is None:
                        await self._until_end(
                            parts, plain(links, self._token, options.count, self._say)
                        )
                        return
                    show = Show(links, self._token, options.clients, parts.kill_worker)
                    try:
                        await self._until_end(parts, show.run(self._console, log.name, remarks))
                    finally:
                        # The terminal may be gone.
                        with contextlib.suppress(OSError):
                            self._say(show.outcome())

    def _admin_port(self) -> int:
        """The default one; any free one with --port 0, or where the default is taken."""
        admin = Admin()
        if self._options.port == 0:
            return 0
        try:
            with socket.create_server((admin.host, admin.port)):
                return admin.port
        except OSError:
            return 0

    def _links(self, parts: Parts, directory: Path) -> Links:
        token_file = directory / "token"
        # Commands read it from here, so that it is in no list of processes and in no history.
        token_file.write_text(self._token())
        host = self._options.host
        return Links(
            host=local_address(host),
            port=parts.port,
            admin_port=parts.admin_port,
            token=token_file.read_text(),
            token_file=token_file,
            command=_command(),
            meter=household(1)[0].serial,
            outside=outside_address(host),
        )

    def _token(self) -> str:
        return mint(self._secret, "demo", TOKEN_SECONDS, time.time())

    async def _until_end(self, parts: Parts, show: Coroutine[Any, Any, None]) -> None:
        """Until the show is over, or the service; raises DemoError when a part has failed."""
        tasks = [asyncio.create_task(show), asyncio.create_task(parts.watch())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


def _command() -> str:
    # In a clone, `make` installs the command outside the PATH.
    typed = Path(sys.argv[0])
    if typed.name != "energyws":
        return "energyws"
    with contextlib.suppress(ValueError):
        typed = typed.relative_to(os.getcwd())
    return shlex.quote(str(typed))
