"""Both clients behave as docs/clients.md promises: one table, played to each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from energyws.client import Client, Gap, Reading, Refused, State
from tests.test_docs import ROOT, table
from tests.web.agent import Agent, node
from tests.web.behaviour import LAST, ROWS, Row, Stage

PATIENCE_SECONDS = 20.0

every_row = pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])


@dataclass
class Seen:
    """The observed behaviour of a client."""

    states: list[tuple[str, str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    gaps: int = 0
    refused: str | int | None = None


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """A process that runs clients in Node."""
    with node() as running:
        yield running


def check(row: Row, stage: Stage, seen: Seen) -> None:
    """Compare the client's behaviour with the row."""
    assert tuple(seen.numbers) == row.numbers
    assert seen.gaps == row.gaps
    assert seen.refused == row.refused
    waits = [why for state, why in seen.states if state == "waiting"]
    assert len(waits) == len(row.waits)
    for why, expected in zip(waits, row.waits, strict=True):
        assert why
        assert expected in (None, why)
    assert [why for state, why in seen.states if state == "connecting" and why] == [*row.causes]
    names = [state for state, _ in seen.states]
    assert names[0] == "connecting"
    assert names[-1] == "idle"
    assert names.count("idle") == 1
    assert "live" in names or not row.numbers
    assert stage.calls == row.calls
    if row.resumes is not None:
        assert stage.resumes == row.resumes


@every_row
def test_python(row: Row) -> None:
    seen = Seen()

    def give() -> str:
        try:
            return stage.mint()
        except PermissionError as error:
            raise Refused(str(error)) from None

    def on_state(state: State, why: str) -> None:
        seen.states.append((state, why))

    async def run() -> None:
        token = row.token if isinstance(row.token, str) else give
        async with Client(stage.url, token=token, on_state=on_state) as client:
            async for message in client:
                match message:
                    case Reading():
                        seen.numbers.append(message.data["n"])
                        if message.data["n"] == LAST:
                            await client.close()
                    case Gap():
                        seen.gaps += 1
        # The last change of state is reported after it was made.
        await asyncio.sleep(0)

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                await run()
            except Refused as error:
                seen.refused = error.code or error.close or ""
                await asyncio.sleep(0)

    with Stage(row) as stage:
        asyncio.run(bounded())
    check(row, stage, seen)


@every_row
def test_javascript(row: Row, agent: Agent) -> None:
    with Stage(row) as stage:
        if isinstance(row.token, str):
            job = agent.start(stage.url, token=row.token)
        else:
            job = agent.start(stage.url, renew=stage.mint)
        if row.refused is None:
            job.wait(lambda: LAST in job.numbers, "the last reading")
            job.stop()
            assert job.error is None
        else:
            job.refused()
        seen = Seen(numbers=job.numbers, gaps=len(job.gaps))
        seen.states = [(event["state"], event["why"]) for event in job.events if "state" in event]
        if job.error is not None:
            assert job.error["name"] == "Refused"
            seen.refused = job.error["code"] or job.error["close"] or ""
    check(row, stage, seen)


def test_every_promise_is_kept() -> None:
    rows = table((ROOT / "docs" / "clients.md").read_text(), "## What both do")
    assert [row[0] for row in rows] == list(dict.fromkeys(row.row for row in ROWS))
