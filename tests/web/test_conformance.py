"""Both clients pass the table of docs/contract/conformance.json, and keep the promises of
docs/clients.md, which it names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from energyws.client import Client, Gap, Reading, Refused, Removed, State
from energyws.testing.conformance.stage import LAST, Stage
from energyws.testing.conformance.table import ClientCase, client_cases
from tests.test_docs import ROOT, table
from tests.web.agent import Agent, node

PATIENCE_SECONDS = 20.0

every_case = pytest.mark.parametrize("case", client_cases(), ids=lambda case: case.id)


@dataclass
class Seen:
    """The observed behaviour of a client."""

    states: list[tuple[str, str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    gaps: int = 0
    removed: list[str] = field(default_factory=list)
    refused: str | int | None = None


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """A process that runs clients in Node."""
    with node() as running:
        yield running


def check(case: ClientCase, stage: Stage, seen: Seen) -> None:
    """Compare the client's behaviour with the case."""
    expect = case.expect
    assert stage.faults == []
    assert seen.numbers == expect["readings"]
    assert seen.gaps == expect.get("gaps", 0)
    assert seen.removed == expect.get("removed", [])
    assert seen.refused == expect.get("refused")
    waits = [why for state, why in seen.states if state == "waiting"]
    assert len(waits) == len(expect.get("waits", []))
    for why, expected in zip(waits, expect.get("waits", []), strict=True):
        assert why
        assert expected in (None, why)
    causes = [why for state, why in seen.states if state == "connecting" and why]
    assert causes == expect.get("causes", [])
    names = [state for state, _ in seen.states]
    assert names[0] == "connecting"
    assert names[-1] == "idle"
    assert names.count("idle") == 1
    assert "live" in names or not seen.numbers
    assert stage.calls == expect.get("tokens", 0)


@every_case
def test_python(case: ClientCase) -> None:
    seen = Seen()

    def give() -> str:
        try:
            return stage.mint()
        except PermissionError as error:
            raise Refused(str(error)) from None

    def on_state(state: State, why: str) -> None:
        seen.states.append((state, why))

    async def run() -> None:
        token = case.token if isinstance(case.token, str) else give
        async with Client(stage.url, token=token, on_state=on_state, **case.asks) as client:
            async for message in client:
                match message:
                    case Reading():
                        seen.numbers.append(message.data["n"])
                        if message.data["n"] == LAST:
                            await client.close()
                    case Gap():
                        seen.gaps += 1
                    case Removed():
                        seen.removed.append(message.key)
        # The last change of state is reported after it was made.
        await asyncio.sleep(0)

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                await run()
            except Refused as error:
                seen.refused = error.code or error.close or ""
                await asyncio.sleep(0)

    with Stage(case) as stage:
        asyncio.run(bounded())
    check(case, stage, seen)


@every_case
def test_javascript(case: ClientCase, agent: Agent) -> None:
    with Stage(case) as stage:
        if isinstance(case.token, str):
            job = agent.start(stage.url, token=case.token, **case.asks)
        else:
            job = agent.start(stage.url, renew=stage.mint, **case.asks)
        if "refused" not in case.expect:
            job.wait(lambda: LAST in job.numbers, "the last reading")
            job.stop()
            assert job.error is None
        else:
            job.refused()
        seen = Seen(numbers=job.numbers, gaps=len(job.gaps), removed=job.removed)
        seen.states = [(event["state"], event["why"]) for event in job.events if "state" in event]
        if job.error is not None:
            assert job.error["name"] == "Refused"
            seen.refused = job.error["code"] or job.error["close"] or ""
    check(case, stage, seen)


def test_every_promise_is_kept() -> None:
    rows = table((ROOT / "docs" / "clients.md").read_text(), "## What both do")
    assert [row[0] for row in rows] == list(dict.fromkeys(case.promise for case in client_cases()))
