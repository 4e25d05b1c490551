"""Starting a child by exec: it inherits descriptors, and no state of this process."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from energyws.control.children import stacks
from energyws.settings import Admin, Settings
from energyws.settings_json import dumps


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child to start; slot (its number) and listen_fd: a worker's only."""

    name: str
    row: int
    slot: int | None
    listen_fd: int | None
    successor: bool = False


Command = Callable[[ChildSpec], list[str]]
# The environment of a child with these settings.
Environment = Callable[[Settings], dict[str, str]]


# -P: where the operator happens to be, a directory `workers` or a file `jwt.py` must not count.
_PYTHON: Final = (sys.executable, "-P", "-m")


def module_command(spec: ChildSpec) -> list[str]:
    """The command line of a child: the interpreter and its module."""
    module = "workers.consumer" if spec.slot is None else "workers.websocket"
    return [*_PYTHON, module]


# Checks new settings before any child gets them.
PREFLIGHT_COMMAND: Final = (*_PYTHON, "workers.preflight")


class Started(NamedTuple):
    """control: the socket for control messages, one a datagram; stacks: see stacks.py.

    The child ends when our end of `control` is closed, by us or by the kernel.
    """

    process: subprocess.Popen[bytes]
    control: socket.socket
    stacks: int


class Spawner:
    """Starts the children of one supervisor; each gets `settings` as they are at its start."""

    def __init__(
        self,
        settings: Settings,
        board_fd: int,
        bus_directory: Path,
        command: Command,
        environment: Environment,
    ) -> None:
        self.settings = settings
        self._board_fd = board_fd
        self._bus_directory = bus_directory
        self._command = command
        self._environment = environment

    def start(self, spec: ChildSpec) -> Started:
        """Start a child; it is running, not ready, when this returns. Raises OSError."""
        with ExitStack() as ours, ExitStack() as its:
            control, other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.callback(control.close)
            its.callback(other_end.close)
            control.setblocking(False)
            stacks_fd = stacks.memory()
            ours.callback(os.close, stacks_fd)
            settings_fd = sealed_file(dumps(for_children(self.settings)))
            its.callback(os.close, settings_fd)
            descriptors = [self._board_fd, settings_fd, other_end.fileno(), stacks_fd]
            arguments = [
                f"--name={spec.name}",
                f"--row={spec.row}",
                f"--board-fd={self._board_fd}",
                f"--settings-fd={settings_fd}",
                f"--control-fd={other_end.fileno()}",
                f"--stacks-fd={stacks_fd}",
                f"--bus={self._bus_directory}",
                f"--parent={os.getpid()}",
            ]
            if spec.slot is not None and spec.listen_fd is not None:
                arguments += [f"--slot={spec.slot}", f"--listen-fd={spec.listen_fd}"]
                descriptors.append(spec.listen_fd)
            if spec.successor:
                arguments.append("--successor")
            process = subprocess.Popen(
                [*self._command(spec), *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
                env=self._environment(self.settings),
            )
            ours.pop_all()
        return Started(process, control, stacks_fd)


def for_children(settings: Settings) -> Settings:
    """The settings without admin.token: who takes over a child must not command the others."""
    return replace(settings, admin=Admin())


def sealed_file(data: bytes) -> int:
    """A descriptor of read-only memory that is in no directory, for secrets (memfd_create(2))."""
    descriptor = os.memfd_create("energyws-settings", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, data)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor
