"""New settings are applied or refused, also when they change during the check."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from energyws.control.reload.plan import Outcome, Plan, plan
from energyws.control.reload.preflight import Preflight
from energyws.control.reload.reloader import Reloader
from energyws.control.sd_notify import ServiceManager
from energyws.errors import ConfigError
from energyws.process.board import Board, Field, Row
from energyws.process.counters import RELOAD_REFUSALS
from energyws.settings import Auth, Kafka, SchemaRegistry, Settings, Stream
from energyws.testing import until

IN_FORCE = Settings(kafka=Kafka(brokers="b", topic="t"), auth=Auth(jwt_secret="1" * 40))


def secret(text: str) -> Settings:
    return replace(IN_FORCE, auth=Auth(jwt_secret=text * 40))


class Play:
    """A reloader whose preflight takes as long as the file `hold` exists."""

    def __init__(self, tmp_path: Path) -> None:
        self.hold = tmp_path / "hold"
        self.applied: list[tuple[str, Settings]] = []
        self.row: Row = Board.create().row(0)
        self.in_force = IN_FORCE
        wait = f"import os, time\nwhile os.path.exists({str(self.hold)!r}): time.sleep(0.01)\n"
        self.preflight = Preflight([sys.executable, "-c", f"{wait}print('[]')"])

    def make(self) -> Reloader:
        return Reloader(
            lambda: self.in_force, self._apply, ServiceManager(None), self.row, self.preflight
        )

    def _apply(self, trigger: str, settings: Settings) -> Plan:
        self.applied.append((trigger, settings))
        before, self.in_force = self.in_force, settings
        return plan(before, settings)

    async def reload(self, settings: Settings) -> Outcome:
        return await self.make().request("SIGHUP", lambda: settings)

    async def checking(self) -> None:
        await until(lambda: self.preflight.pid is not None)

    @property
    def refusals(self) -> dict[str, int]:
        return {reason: n for (reason,), n in RELOAD_REFUSALS.read(self.row.columns()).items() if n}


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


def test_new_settings_are_checked_and_applied(play: Play) -> None:
    async def run() -> None:
        play.make().request("SIGHUP", lambda: secret("2"))
        await until(lambda: play.applied)

    asyncio.run(run())
    assert play.applied == [("SIGHUP", secret("2"))]
    assert play.refusals == {}


def test_settings_that_children_can_always_use_need_no_preflight(play: Play) -> None:
    play.hold.touch()
    settings = replace(IN_FORCE, server=replace(IN_FORCE.server, max_connections=5))

    async def run() -> None:
        play.make().request("SIGHUP", lambda: settings)
        await until(lambda: play.applied)

    asyncio.run(run())
    assert play.applied == [("SIGHUP", settings)]


@pytest.mark.parametrize(
    "changed",
    [
        {"streams": {"energy": Stream(topic="t", format="avro")}},
        {"schema_registry": SchemaRegistry(url="http://other")},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_formats_and_their_registry_are_checked(play: Play, changed: dict[str, Any]) -> None:
    play.hold.touch()
    settings = replace(IN_FORCE, **changed)

    async def run() -> None:
        play.make().request("SIGHUP", lambda: settings)
        await play.checking()
        assert not play.applied
        play.hold.unlink()
        await until(lambda: play.applied)

    asyncio.run(run())


def test_settings_that_change_during_the_check_are_checked_again(play: Play) -> None:
    play.hold.touch()
    there = [secret("2")]

    async def run() -> None:
        play.make().request("SIGHUP", lambda: there[-1])
        await play.checking()
        there.append(secret("3"))
        play.hold.unlink()
        await until(lambda: play.applied)

    asyncio.run(run())
    assert play.applied == [("SIGHUP", secret("3"))]


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (secret("2"), False),
        (replace(IN_FORCE, streams={"a": Stream(topic="a", key="record")}), False),
        (replace(IN_FORCE, streams={"a": Stream(topic="a", format="avro")}), True),
        (replace(IN_FORCE, schema_registry=SchemaRegistry(url="http://127.0.0.1:1")), True),
    ],
)
def test_registry_is_asked_where_what_is_wanted_of_it_has_changed(
    play: Play, settings: Settings, refused: bool
) -> None:
    asked = (
        "import sys\nprint('[]' if '--without-registry' in sys.argv else '[[\"secret\",\"x\"]]')"
    )
    play.preflight = Preflight([sys.executable, "-c", asked])

    outcome = asyncio.run(play.reload(settings))

    assert outcome.problems == (("x",) if refused else ())
    assert play.applied == ([] if refused else [("SIGHUP", settings)])


def test_several_requests_during_a_check_are_one_further_reload(play: Play) -> None:
    play.hold.touch()
    loads = []

    def load() -> Settings:
        loads.append(1)
        return secret("2")

    async def run() -> None:
        reloader = play.make()
        reloader.request("SIGHUP", load)
        await play.checking()
        for _ in range(5):
            reloader.request("SIGHUP", load)
        play.hold.unlink()
        await until(lambda: len(play.applied) == 2)
        await until(lambda: not reloader.pids)

    asyncio.run(run())
    # Twice each: before the check and after it.
    assert len(loads) == 4


def test_nothing_is_applied_once_the_service_drains(play: Play) -> None:
    play.hold.touch()

    async def run() -> None:
        reloader = play.make()
        reloader.request("SIGHUP", lambda: secret("2"))
        await play.checking()
        reloader.stop()
        play.hold.unlink()
        await until(lambda: not reloader.pids)
        reloader.request("SIGHUP", lambda: replace(IN_FORCE, streams={}))
        await asyncio.sleep(0)

    asyncio.run(run())
    assert play.applied == []


@pytest.mark.parametrize("faulty", ["configuration", "certificate", "secret"])
def test_refusal_is_counted_by_the_kind_of_fault(play: Play, faulty: str) -> None:
    def load() -> Settings:
        raise ConfigError(["one", "two"], faulty)  # type: ignore[arg-type]

    async def run() -> None:
        play.make().request("SIGHUP", load)
        await until(lambda: play.row[Field.RELOADS_REFUSED])

    asyncio.run(run())
    assert play.refusals == {faulty: 1}
    assert play.applied == []


def test_failure_of_one_does_not_end_the_others(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    def load() -> Settings:
        raise RuntimeError("unforeseen")

    async def run() -> None:
        reloader = play.make()
        failed = reloader.request("SIGHUP", load)
        # Requested before the first one has failed.
        taken = reloader.request("POST /reload", lambda: secret("2"))
        assert (await failed).problems == ("the reload failed: the log has the reason",)
        assert (await taken).changed == ("auth.jwt_secret",)

    asyncio.run(run())
    assert "reload failed" in caplog.text


def test_changed_secret_file_is_read_again_without_a_signal(play: Play, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("1" * 40)
    play.in_force = replace(IN_FORCE, auth=Auth(jwt_secret="1" * 40, jwt_secret_file=str(path)))

    async def run() -> None:
        reloader = play.make()
        path.write_text("2" * 40 + "\n")
        for second in range(3):
            reloader.look(float(second))
        await until(lambda: play.applied)

    asyncio.run(run())
    ((trigger, settings),) = play.applied
    assert trigger == "a file has changed"
    assert settings.auth.jwt_secret == "2" * 40


def test_request_ends_with_its_outcome(play: Play) -> None:
    server = replace(IN_FORCE.server, port=1, backlog=9)

    def refuse() -> Settings:
        raise ConfigError(["one", "two"])

    async def run() -> list[Outcome]:
        reloader = play.make()
        outcomes = [
            await reloader.request("SIGHUP", load)
            for load in (lambda: replace(IN_FORCE, server=server), refuse, lambda: play.in_force)
        ]
        first = reloader.request("SIGHUP", lambda: secret("2"))
        reloader.stop()
        return [*outcomes, await first, await reloader.request("SIGHUP", lambda: secret("2"))]

    assert asyncio.run(run()) == [
        Outcome(changed=("server.port", "server.backlog"), restart=("server.port",)),
        Outcome(problems=("one", "two")),
        Outcome(),
        *[Outcome(problems=("the service is draining",))] * 2,
    ]


def test_two_requests_before_a_reload_begins_are_one_with_the_newer_settings(play: Play) -> None:
    async def run() -> None:
        reloader = play.make()
        first = reloader.request("POST /reload", lambda: secret("2"))
        assert reloader.request("POST /reload", lambda: secret("3")) is first
        await first

    asyncio.run(run())
    assert play.applied == [("POST /reload", secret("3"))]
