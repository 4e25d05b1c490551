"""`energyws demo`: broker, meters, service and a client of ours; every part is the real one."""

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
_LISTENING: Final = re.compile(r"(admin )?listening .*\bport=([0-9]+)")
# JSON is YAML. The embedded broker answers a waiting fetch only when its time is up, so that is
# short here; a real one answers at once, and wants the default.
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
    """The whole demonstration; `say` prints a line."""

    def __init__(self, meters: int, workers: int, port: int, say: Callable[[str], None]) -> None:
        self._meters = meters
        self._workers = workers
        self._port = port
        self._say = say
        self._secret = secrets.token_hex(32)

    async def run(self, count: int | None) -> None:
        """Until cancelled, or until `count` readings were printed; leaves no process behind."""
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
                    watch=True,
                ) as service,
            ):
                async with asyncio.timeout(START_SECONDS):
                    port, admin_port = await service.port, await service.admin_port
                await self._show(port, admin_port, count)

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
        """The one that operators' verbs expect, unless any is as good or somebody has it."""
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
    # In a clone, make has installed it where no shell looks.
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


class _Child:
    """A process of the demo; the ports are known once it says where it listens."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        loop = asyncio.get_running_loop()
        self.port: asyncio.Future[int] = loop.create_future()
        self.admin_port: asyncio.Future[int] = loop.create_future()

    async def relay(self) -> None:
        """Pass its log on, and look for the ports in it."""
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            line = raw.decode(errors="replace")
            sys.stderr.write(line)
            sys.stderr.flush()
            if (found := _LISTENING.search(line)) is not None:
                port = self.admin_port if found[1] else self.port
                if not port.done():
                    port.set_result(int(found[2]))
        for port in (self.port, self.admin_port):
            if not port.done():
                port.set_exception(
                    DemoError(
                        "the service did not start: see above (is the port taken? try --port 0)"
                    )
                )


@contextlib.asynccontextmanager
async def _process(
    module: str, *arguments: str, secret: str | None = None, watch: bool = False
) -> AsyncIterator[_Child]:
    environment = dict(os.environ)
    if secret is not None:
        environment["DEMO_JWT_SECRET"] = secret
    child = _Child(
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            env=environment,
            stderr=asyncio.subprocess.PIPE if watch else None,
            # Ctrl-C is for the demo, which then ends its children in order.
            start_new_session=True,
        )
    )
    relay = asyncio.create_task(child.relay()) if watch else None
    try:
        yield child
    finally:
        await _stop(child.process)
        if relay is not None:
            await relay
            for port in (child.port, child.admin_port):
                if port.done():
                    # Retrieved, or nobody waits for it any more.
                    port.exception()


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
