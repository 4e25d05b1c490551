"""New settings are checked in a process of their own before running children get them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final

import orjson

from energyws.control.children.spawn import PREFLIGHT_COMMAND, for_children, sealed_file
from energyws.control.config.environment import without_secrets
from energyws.errors import ConfigError
from energyws.settings import Settings
from energyws.settings_json import dumps

PREFLIGHT_SECONDS: Final = 20.0


class Preflight:
    """One check at a time; pid: of the process that checks, None if there is none."""

    def __init__(self, command: Sequence[str] = PREFLIGHT_COMMAND) -> None:
        self._command = command
        self.pid: int | None = None

    async def check(self, settings: Settings, *, registry: bool = True) -> list[str]:
        """Warnings; raises ConfigError if children could not use these settings, or it fails.

        registry: whether to ask the schema registry, too.
        """
        output = await self._run(settings, () if registry else ("--without-registry",))
        try:
            found = orjson.loads(output)
        except orjson.JSONDecodeError:
            raise ConfigError(["the settings could not be checked: see the log"]) from None
        if faults := [each for each in found if each[0] != "warning"]:
            raise ConfigError([problem for _, problem in faults], faults[0][0])
        return [warning for _, warning in found]

    async def _run(self, settings: Settings, options: Sequence[str]) -> bytes:
        descriptor = sealed_file(dumps(for_children(settings)))
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                f"--settings-fd={descriptor}",
                *options,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=[descriptor],
                env=without_secrets(os.environ, settings),
            )
        except OSError as error:
            raise ConfigError([f"the settings could not be checked: {error.strerror}"]) from None
        finally:
            os.close(descriptor)
        self.pid = process.pid
        try:
            async with asyncio.timeout(PREFLIGHT_SECONDS):
                output, _ = await process.communicate()
                return output
        except TimeoutError:
            raise ConfigError([f"not checked within {PREFLIGHT_SECONDS:g} s: try again"]) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            self.pid = None
