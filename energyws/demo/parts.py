"""The processes of the demo: broker, meters and service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson
import psutil

from energyws.errors import EnergywsError
from energyws.testing.broker_process import BrokerProcess

TOPIC: Final = "homelab-energy-realtime"
PARTITIONS: Final = 3
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.5
# The log's lines `listening` and `admin listening`.
_LISTENING: Final = re.compile(r"((?:admin )?)listening .*\bport=([0-9]+)")
# JSON is YAML. The embedded broker answers a waiting fetch only after the whole fetch.wait.max.ms,
# so that is short here; a real broker answers at once and needs the default.
_CONFIG: Final = {
    "kafka": {
        "options": {"fetch.wait.max.ms": 5},
    },
    # The reader's own number: those of the meter itself are often "Not found".
    "streams": {
        "energy": {
            "topic": TOPIC,
            "key": "/saveeyeDeviceSerialNumber",
            "snapshot": {"enabled": True},
        }
    },
    "server": {"drain_seconds": 1, "dashboard": True},
    "auth": {"jwt_secret": "$(DEMO_JWT_SECRET)"},
}


class DemoError(EnergywsError):
    """A part of the demo did not start, or ended before the demo did."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start. port, admin_port: 0 for any. secret: that of the tokens."""

    meters: int
    workers: int
    host: str
    port: int
    admin_port: int
    secret: str


class Parts:
    """The running processes. port, admin_port: where the service listens."""

    def __init__(
        self,
        broker: BrokerProcess,
        simulator: asyncio.subprocess.Process,
        service: asyncio.subprocess.Process,
        ports: Mapping[str, int],
    ) -> None:
        self.port: Final = ports[""]
        self.admin_port: Final = ports["admin "]
        self._broker = broker
        self._simulator = simulator
        self._service = service

    async def watch(self) -> None:
        """Return when the service has ended as it was told; raise DemoError when a part failed."""
        while True:
            if self._service.returncode == 0:
                return
            for name, code in (
                ("service", self._service.returncode),
                ("simulator of the meters", self._simulator.returncode),
            ):
                if code is not None:
                    raise DemoError(f"the {name} has ended with status {code}: see its log")
            if not self._broker.running:
                raise DemoError("the embedded broker has ended")
            await asyncio.sleep(_LOOK_SECONDS)

    def kill_worker(self, pid: int) -> bool:
        """Kill a worker with SIGKILL; False if the service has no such child (any more)."""
        try:
            for child in psutil.Process(self._service.pid).children():
                if child.pid == pid:
                    child.kill()
                    return True
        except psutil.NoSuchProcess:
            pass
        return False


@contextlib.asynccontextmanager
async def running(
    plan: Plan, directory: Path, log: IO[Any] | None, say: Callable[[str], None]
) -> AsyncIterator[Parts]:
    """Start everything; ends with the block, and leaves no process behind.

    directory: for the configuration's file. log: what the parts log goes there; None: to standard
    error. Raises DemoError or BrokerError.
    """
    say("starting the embedded broker …")
    stderr = None if log is None else log.fileno()
    with BrokerProcess({TOPIC: PARTITIONS}, stderr=stderr) as broker:
        say(f"  {broker.bootstrap}, topic {TOPIC}, {PARTITIONS} partitions")
        say(f"starting {plan.meters} smart meters and {plan.workers} workers …")
        config = directory / "config.yaml"
        config.write_bytes(orjson.dumps(_CONFIG))
        meters = ["--brokers", broker.bootstrap, "--topic", TOPIC, "--meters", str(plan.meters)]
        async with (
            _process("energyws.demo.simulator", *meters, stderr=stderr) as simulator,
            _process(
                "energyws.demo.service",
                *_service(plan, broker.bootstrap, config),
                stderr=asyncio.subprocess.PIPE,
                secret=plan.secret,
            ) as service,
            _relayed(service, log) as ports,
        ):
            async with asyncio.timeout(START_SECONDS):
                found = await ports
            if len(found) < 2:
                raise DemoError("the service did not start: see its log")
            yield Parts(broker, simulator, service, found)


def _service(plan: Plan, brokers: str, config: Path) -> list[str]:
    overrides = {
        "kafka.brokers": brokers,
        "server.host": plan.host,
        "server.port": plan.port,
        "server.workers": plan.workers,
        "admin.port": plan.admin_port,
    }
    return ["--config", str(config), *(f"--set={key}={value}" for key, value in overrides.items())]


@contextlib.asynccontextmanager
async def _process(
    module: str, *arguments: str, stderr: int | None, secret: str | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        module,
        *arguments,
        env=None if secret is None else {**os.environ, "DEMO_JWT_SECRET": secret},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=stderr,
        # Ctrl-C is for the demo, which then ends its children in order.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        await _stop(process)


@contextlib.asynccontextmanager
async def _relayed(
    process: asyncio.subprocess.Process, log: IO[Any] | None
) -> AsyncIterator[asyncio.Future[dict[str, int]]]:
    """Copy the process's log; yields the ports in it by the words before `listening`.

    Fewer than two where the process ended first.
    """
    assert process.stderr is not None
    ports: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
    relay = asyncio.create_task(_relay(process.stderr, log or sys.stderr.buffer, ports))
    try:
        yield ports
    finally:
        # Its last lines come when it has been told to stop, and end with it.
        await _stop(process)
        await relay


async def _relay(
    source: asyncio.StreamReader, log: IO[Any], ports: asyncio.Future[dict[str, int]]
) -> None:
    found: dict[str, int] = {}
    async for line in source:
        log.write(line)
        log.flush()
        if (match := _LISTENING.search(line.decode(errors="replace"))) is not None:
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
