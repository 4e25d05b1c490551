"""`energyws demo`: an embedded broker, simulated meters, the real service, and a client of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import orjson

from energyws.auth.verifier import mint
from energyws.client import Client, Gap, Message, Reading
from energyws.errors import EnergywsError
from energyws.settings import Admin
from energyws.testing.broker_process import BrokerProcess

TOPIC: Final = "homelab-energy-realtime"
PARTITIONS: Final = 3
TOKEN_SECONDS: Final = 86_400
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
# The log's lines `listening` and `admin listening`.
_LISTENING: Final = re.compile(r"((?:admin )?)listening .*\bport=([0-9]+)")
# JSON is YAML. The embedded broker answers a waiting fetch only after the whole fetch.wait.max.ms,
# so that is short here; a real broker answers at once and needs the default.
_CONFIG: Final = {
    "kafka": {
        "topic": TOPIC,
        "options": {"fetch.wait.max.ms": 5},
    },
    "server": {"host": "127.0.0.1", "drain_seconds": 1},
    "auth": {"jwt_secret": "$(DEMO_JWT_SECRET)"},
}


class DemoError(EnergywsError):
    """A part of the demo did not start."""


class Demo:
    """`say` prints one line."""

    def __init__(self, meters: int, workers: int, port: int, say: Callable[[str], None]) -> None:
        self._meters = meters
        self._workers = workers
        self._port = port
        self._say = say
        self._secret = secrets.token_hex(32)

    async def run(self, count: int | None) -> None:
        """Run until cancelled, or until `count` readings are printed; leaves no process behind."""
        self._say("starting the embedded broker …")
        with (
            BrokerProcess({TOPIC: PARTITIONS}) as broker,
            tempfile.TemporaryDirectory(prefix="energyws-demo-") as directory,
        ):
            self._say(f"  {broker.bootstrap}, topic {TOPIC}, {PARTITIONS} partitions")
            self._say(f"starting {self._meters} smart meters and {self._workers} workers …")
            config = _configuration(Path(directory))
            async with (
                _process("energyws.demo.simulator", *self._simulator(broker.bootstrap)),
                _process(
                    "energyws.demo.service",
                    *self._service(broker.bootstrap, config),
                    secret=self._secret,
                ) as ports,
            ):
                async with asyncio.timeout(START_SECONDS):
                    found = await ports
                if len(found) < 2:
                    raise DemoError(
                        "the service did not start: see above (is the port taken? try --port 0)"
                    )
                await self._show(found[""], found["admin "], count)

    def _simulator(self, brokers: str) -> list[str]:
        return ["--brokers", brokers, "--topic", TOPIC, "--meters", str(self._meters)]

    def _service(self, brokers: str, config: Path) -> list[str]:
        overrides = {
            "kafka.brokers": brokers,
            "server.port": self._port,
            "server.workers": self._workers,
            "admin.port": self._admin_port(),
        }
        flags = [f"--set={key}={value}" for key, value in overrides.items()]
        return ["--config", str(config), *flags]

    def _admin_port(self) -> int:
        """The default one; any free one with --port 0, or where the default is taken."""
        admin = Admin()
        if self._port == 0:
            return 0
        try:
            with socket.create_server((admin.host, admin.port)):
                return admin.port
        except OSError:
            return 0

    async def _show(self, port: int, admin_port: int, count: int | None) -> None:
        token = mint(self._secret, "demo", TOKEN_SECONDS, time.time())
        url = f"ws://127.0.0.1:{port}/ws/energy"
        self._say("")
        self._say(f"  {url}?token={token}")
        where = "" if admin_port == Admin().port else f" --admin http://127.0.0.1:{admin_port}"
        self._say("")
        self._say(f"watch and steer it from another terminal: {_command()} top{where}")
        self._say(
            'connect with any WebSocket client and send {"type":"subscribe","streams":["energy"]};'
        )
        self._say("these are the readings that a client of ours receives (Ctrl-C ends):")
        readings = 0
        async with contextlib.aclosing(Client(url, token=token, last=1).messages()) as messages:
            async for message in messages:
                self._say(_line(message))
                readings += isinstance(message, Reading)
                if readings == count:
                    return


def _command() -> str:
    # In a clone, `make` installs the command outside the PATH.
    typed = Path(sys.argv[0])
    return shlex.quote(str(typed)) if typed.name == "energyws" else "energyws"


def _configuration(directory: Path) -> Path:
    path = directory / "config.yaml"
    path.write_bytes(orjson.dumps(_CONFIG))
    return path


def _line(message: Message) -> str:
    if isinstance(message, Gap):
        return f"  missed {message.missed}: {message.reason}"
    data = message.data
    power = data["activeActualConsumption"]["total"]
    serial = data["saveeyeDeviceSerialNumber"]
    return f"  {message.timestamp}  {serial}  {power:6d} W  {message.position}"


@contextlib.asynccontextmanager
async def _process(
    module: str, *arguments: str, secret: str | None = None
) -> AsyncIterator[asyncio.Future[dict[str, int]]]:
    """Run a part of the demo; the one with a secret is the service, whose log names its ports.

    Yields them by the words before `listening`; fewer than two where the service ended first.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        env=None if secret is None else {**os.environ, "DEMO_JWT_SECRET": secret},
        stderr=None if secret is None else asyncio.subprocess.PIPE,
        # Ctrl-C is for the demo, which then ends its children in order.
        start_new_session=True,
    )
    ports: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
    relay = None
    if process.stderr is not None:
        relay = asyncio.create_task(_relay(process.stderr, ports))
    try:
        yield ports
    finally:
        await _stop(process)
        if relay is not None:
            await relay


async def _relay(log: asyncio.StreamReader, ports: asyncio.Future[dict[str, int]]) -> None:
    found: dict[str, int] = {}
    async for raw in log:
        line = raw.decode(errors="replace")
        sys.stderr.write(line)
        sys.stderr.flush()
        if (match := _LISTENING.search(line)) is not None:
            found[match[1]] = int(match[2])
            if len(found) == 2 and not ports.done():
                ports.set_result(found)
    if not ports.done():
        ports.set_result(found)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
