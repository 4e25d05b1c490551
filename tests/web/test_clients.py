"""The JavaScript client against the real service, in Node and in a real browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from energyws.auth.verifier import mint
from energyws.testing import PARTITIONS, Records, Service, Traffic, eventually, token
from energyws.testing.issuer import Issuer
from tests.web.agent import Agent, Job, chromium, node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

Serve = Callable[..., Service]
FORGED = mint("another-secret-of-more-than-32-bytes", "intruder", 60, time.time())


@pytest.fixture(scope="module", params=[node, chromium], ids=["node", "chromium"])
def agent(request: pytest.FixtureRequest) -> Iterator[Agent]:
    """A process that runs clients, shared because a browser takes seconds to start."""
    with request.param() as running:
        yield running


@pytest.fixture
def browser() -> Iterator[Agent]:
    """For tests that need an Origin header, which only a browser sends."""
    with chromium() as running:
        yield running


def assert_once_and_in_order(job: Job, count: int) -> None:
    """Wait for `count` records: each once, in the order of its partition, without a gap."""
    job.wait(lambda: len(job.numbers) >= count, f"{count} readings")
    job.stop()
    assert job.error is None
    assert job.gaps == []
    assert sorted(job.numbers) == list(range(count))
    for partition in range(PARTITIONS):
        own = [n for n in job.numbers if n % PARTITIONS == partition]
        assert own == sorted(own)


def test_killed_workers_cost_no_reading(serve: Serve, records: Records, agent: Agent) -> None:
    service = serve(supervision={"crash_loop_count": 50}).ready()
    jobs = [agent.start(service.url, token=token()).live() for _ in range(4)]
    with Traffic(records) as traffic:
        traffic.more(20)
        for name in ("worker-0", "worker-1") * 3:
            eventually(lambda: len(service.children()) == 3, "every child runs")
            service.children()[name].kill()
            traffic.more(60)
            service.ready()
    for job in jobs:
        assert_once_and_in_order(job, records.sent)
    assert all(job.connects > 1 for job in jobs)


def test_restarts_of_the_service_cost_no_reading(
    serve: Serve, records: Records, agent: Agent
) -> None:
    service = serve().ready()
    port = service.port
    jobs = [agent.start(service.url, token=token()).live() for _ in range(2)]
    with Traffic(records) as traffic:
        for restarts in (1, 2):
            traffic.more(40)
            assert service.stop() == 0
            traffic.more(40)
            service = serve(server={"port": port}).ready()
            for job in jobs:
                job.connected(1 + restarts)
    for job in jobs:
        assert_once_and_in_order(job, records.sent)


def test_slow_application_misses_nothing(serve: Serve, records: Records, agent: Agent) -> None:
    service = serve().ready()
    # More arrives than fits into its queue, so the client ends the connection.
    job = agent.start(service.url, token=token(), busy=True).live()
    records.send(9_000)
    service.wait_logged("WebSocket client disconnected")
    job.busy = False
    assert_once_and_in_order(job, records.sent)
    assert job.connects > 1


def test_readings_are_compressed(serve: Serve, records: Records, agent: Agent) -> None:
    service = serve().ready()
    job = agent.start(service.url, token=token()).live()
    records.send(50, pad="na" * 500)
    assert_once_and_in_order(job, 50)
    sent = sum(child["board"]["bytes"] for child in service.admin("/workers")[1])
    assert 0 < sent < 50 * 500


def test_last_since_and_resume_give_history(serve: Serve, records: Records, agent: Agent) -> None:
    service = serve().ready()
    records.send(9)
    service.caught_up(records)
    every = agent.start(service.url, token=token(), since="1970-01-01T00:00:00Z")
    assert_once_and_in_order(every, 9)
    newest = agent.start(service.url, token=token(), last=4)
    newest.wait(lambda: len(newest.numbers) == 4, "the newest four")
    newest.stop()
    lost = agent.start(service.url, token=token(), resume={"energy": "ff-1.1.1"})
    lost.wait(lambda: len(lost.numbers) == 9, "the whole log")
    lost.stop()
    assert [gap["reason"] for gap in lost.gaps] == ["EPOCH_CHANGED"]
    assert lost.gaps[0]["missed"] is None


def test_token_is_renewed_before_it_expires(serve: Serve, records: Records, agent: Agent) -> None:
    service = serve(auth={"leeway_seconds": 0, "expiry_notice_seconds": 2.5}).ready()
    minted: list[str] = []

    def renew() -> str:
        minted.append(token(seconds=4))
        return minted[-1]

    job = agent.start(service.url, renew=renew).live()
    eventually(lambda: len(minted) > 3, "renewals")
    records.send(3)
    assert_once_and_in_order(job, 3)
    assert job.connects == 1


def test_rotation_of_the_keys_only_delays(serve: Serve, records: Records, agent: Agent) -> None:
    with Issuer("home", "ES256") as issuer:
        trusted = {"name": "home", "issuer": issuer.name, "jwks_url": issuer.url}
        service = serve(auth={"issuers": [trusted]}).ready()
        agent.start(service.url, renew=issuer.token).live().stop()
        issuer.rotate()
        job = agent.start(service.url, renew=issuer.token).live()
        records.send(3)
        assert_once_and_in_order(job, 3)
    assert "waiting" in job.states
    causes = {event["why"] for event in job.events if event.get("state") == "waiting"}
    assert causes == {"KEYS_UNAVAILABLE: Tokens cannot be checked yet: try again"}


def test_bad_token_is_refused(serve: Serve, agent: Agent) -> None:
    service = serve().ready()
    error = agent.start(service.url, token=FORGED).refused()
    assert error == {
        "name": "Refused",
        "message": "UNAUTHORIZED: Invalid token",
        "code": "UNAUTHORIZED",
        "close": 4401,
    }
    job = agent.start(service.url, renew=lambda: FORGED)
    assert job.refused() == error
    assert job.connects == 2


def test_stream_that_the_token_does_not_allow_is_refused(serve: Serve, agent: Agent) -> None:
    service = serve().ready()
    error = agent.start(service.url, token=token(streams=[])).refused()
    assert (error["code"], error["close"]) == ("FORBIDDEN_STREAM", None)


@pytest.mark.parametrize("reject", ["auto", "message"])
def test_page_learns_the_reason_of_a_refusal(serve: Serve, browser: Agent, reject: str) -> None:
    service = serve(
        server={"allowed_origins": ["https://app.test"]}, auth={"reject": reject}
    ).ready()
    error = browser.start(service.url, token=token()).refused()
    assert (error["code"], error["close"]) == ("FORBIDDEN_ORIGIN", 4403)


def test_page_of_an_allowed_origin_may_connect(
    serve: Serve, records: Records, browser: Agent
) -> None:
    service = serve(server={"allowed_origins": [browser.origin]}).ready()
    job = browser.start(service.url, token=token()).live()
    records.send(3)
    assert_once_and_in_order(job, 3)
    refusal = browser.start(service.url, token=FORGED).refused()
    assert (refusal["code"], refusal["close"]) == ("UNAUTHORIZED", 4401)


def test_token_is_in_no_log(serve: Serve, records: Records, agent: Agent) -> None:
    service = serve(log={"level": "DEBUG"}, auth={"reject": "message"}).ready()
    good = token()
    job = agent.start(service.url, token=good).live()
    job.stop()
    agent.start(service.url, token=FORGED).refused()
    service.wait_logged("connection refused")
    assert not service.logged(good)
    assert not service.logged(FORGED)
