"""Signals are noted in order and handled later; e2e tests close a real terminal."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from energyws.control.signals import HANDLED, Signals, Terminal
from energyws.control.supervisor import Supervisor


def test_each_signal_has_a_method_of_the_supervisor() -> None:
    methods = {name for name in vars(Supervisor) if name.startswith("handle_")}
    assert methods == {f"handle_{number.name.removeprefix('SIG').lower()}" for number in HANDLED}


def test_signals_are_noted_once_and_in_order() -> None:
    async def run() -> list[list[signal.Signals]]:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        signals = Signals(loop, woken.set)
        try:
            taken = [signals.take()]
            async with asyncio.timeout(10):
                for number in (signal.SIGUSR2, signal.SIGTTIN, signal.SIGUSR2):
                    os.kill(os.getpid(), number)
                    await woken.wait()
                    woken.clear()
            return [*taken, signals.take(), signals.take()]
        finally:
            for number in HANDLED:
                loop.remove_signal_handler(number)

    assert asyncio.run(run()) == [
        [],
        [signal.SIGUSR2, signal.SIGTTIN, signal.SIGUSR2],
        [],
    ]


def test_service_without_a_terminal_never_loses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_terminal(*_: object) -> int:
        raise OSError

    monkeypatch.setattr("energyws.control.signals.os.open", no_terminal)
    terminal = Terminal()
    assert not terminal.gone()
    terminal.close()


def test_terminal_is_gone_when_its_other_end_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    window, ours = os.openpty()
    monkeypatch.setattr("energyws.control.signals.os.open", lambda *_: ours)
    terminal = Terminal()
    assert not terminal.gone()
    os.close(window)
    assert terminal.gone()
    terminal.close()
