"""What a supervisor has only while it runs: made in order, undone in the opposite order."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from energyws.control.admin.handlers import Handlers, Operations
from energyws.control.admin.ports import AdminPorts
from energyws.control.children.children import SUPERVISOR_ROW, Children
from energyws.control.children.listeners import Listeners
from energyws.control.children.run_directory import RunDirectory
from energyws.control.children.spawn import Command, Spawner
from energyws.control.config.environment import without_secrets
from energyws.control.policy.fleet import Fleet
from energyws.control.reload.deny_list import DenyList
from energyws.control.reload.plan import Plan
from energyws.control.reload.preflight import Preflight
from energyws.control.reload.reloader import Reloader
from energyws.control.sd_notify import ServiceManager, manager
from energyws.control.signals import Signals, Terminal
from energyws.logs.recent import Recent
from energyws.process.board import Board, Row
from energyws.settings import Settings

# The log lines that /status shows.
RECENT_EVENTS: Final = 50


@dataclass(slots=True)
class Running:
    """row: the supervisor's own on the board. rebalanced_at: monotonic seconds."""

    row: Row
    terminal: Terminal
    manager: ServiceManager
    listeners: Listeners
    children: Children
    reloader: Reloader
    deny_list: DenyList
    handlers: Handlers
    admin: AdminPorts
    signals: Signals
    rebalanced_at: float


def set_up(
    stack: ExitStack,
    fleet: Fleet,
    command: Command,
    operations: Operations,
    current: Callable[[], Settings],
    apply: Callable[[str, Settings], Plan],
    wake: Callable[[], None],
) -> Running:
    """All of it, closed with `stack`. Raises BootError.

    current: gives the settings in use; apply: see Reloader; wake: lets the supervisor take a step.
    """
    settings, loop = current(), asyncio.get_running_loop()
    recent = Recent("supervisor", RECENT_EVENTS)
    stack.enter_context(recent.kept())
    service_manager = manager(os.environ)
    stack.callback(service_manager.close)
    listeners = Listeners(settings.server, fleet.workers)
    stack.callback(listeners.close)
    directory = RunDirectory()
    stack.callback(directory.close)
    terminal = Terminal()
    stack.callback(terminal.close)
    board = Board.create()
    row = board.row(SUPERVISOR_ROW)
    deny_list = DenyList(directory.path, row)
    deny_list.publish(settings)
    reloader = Reloader(current, apply, service_manager, row, Preflight())
    environment = partial(without_secrets, os.environ)
    spawner = Spawner(settings, board.descriptor, directory.path, command, environment)
    children = Children(spawner, board, listeners, wake)
    handlers = Handlers(fleet, children, row, recent, operations)
    # From here on operators' requests are answered.
    admin = AdminPorts(
        settings.admin, handlers.answers(), handlers.pages(), handlers.commands(loop)
    )
    stack.callback(admin.close)
    # Last, and so undone first: children end before anything that they use is closed.
    stack.callback(children.kill_all)
    return Running(
        row,
        terminal,
        service_manager,
        listeners,
        children,
        reloader,
        deny_list,
        handlers,
        admin,
        Signals(loop, wake),
        time.monotonic(),
    )
