"""A client that makes no mistake gets no `error`: checked with pages like the published gauge."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from energyws.testing import SECRET, Broker, Records, Service, config, eventually, token
from energyws.testing.issuer import Issuer
from energyws.testing.proxy import TcpProxy
from tests.gauge import Gauge, Meter, all_show, run_through_restarts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

Serve = Callable[..., Service]
RESTARTS = 6 if os.environ.get("REDPANDA_BROKERS") else 2


@pytest.fixture
def meter(broker: Broker, topic: str) -> Meter:
    """Writes the readings that gauges show."""
    return Meter(broker, topic)


def test_no_card_before_the_token_has_expired(serve: Serve, meter: Meter) -> None:
    service = serve(auth={"leeway_seconds": 0, "expiry_notice_seconds": 3}).ready()
    expires_at = time.time() + 5
    bearer = jwt.encode({"sub": "page", "exp": expires_at}, SECRET, algorithm="HS256")
    with Gauge(service.url, bearer, reconnect_seconds=60) as gauge:
        eventually(lambda: ("notice", "TOKEN_EXPIRING") in gauge.seen, "the notice")
        all_show([gauge], meter)
        assert gauge.cards == []
        eventually(lambda: gauge.closes == [4401], "the end")
    ((at, text),) = gauge.cards
    assert at >= expires_at
    assert text == "Token expired"


def test_no_card_on_a_page_that_opens_while_the_broker_is_away(
    broker: Broker, topic: str, meter: Meter, tmp_path: Path
) -> None:
    host, _, port = broker.bootstrap.partition(":")
    with TcpProxy(host, int(port)) as proxy:
        proxy.cut()
        settings = config(f"127.0.0.1:{proxy.port}", topic)
        with Service(tmp_path, settings) as service, Gauge(service.url, token()) as gauge:
            eventually(lambda: ("notice", "STREAM_UNAVAILABLE") in gauge.seen, "the notice")
            proxy.restore()
            service.ready()
            all_show([gauge], meter)
    assert gauge.cards == []
    assert gauge.opens == 1


def test_no_card_over_restarts_rolls_and_reloads(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    gauges = run_through_restarts(broker, topic, tmp_path, RESTARTS, 4)
    assert [gauge.cards for gauge in gauges] == [[]] * 4
    assert all(gauge.opens > RESTARTS for gauge in gauges)
    assert all(("notice", "TOKEN_EXPIRING") in gauge.seen for gauge in gauges)


def test_no_card_on_pages_that_open_during_a_drain(serve: Serve, meter: Meter) -> None:
    service = serve(server={"workers": 1, "drain_seconds": 3}).ready()
    with contextlib.ExitStack() as stack:
        gauges = [
            stack.enter_context(Gauge(service.url, token(), reconnect_seconds=0.05))
            for _ in range(6)
        ]
        all_show(gauges, meter)
        assert service.stop() == 0
    # The drain closes pages one by one: all but the last reconnect before the service ends.
    assert any(("notice", "SHUTTING_DOWN") in gauge.seen for gauge in gauges)
    assert [gauge.cards for gauge in gauges] == [[]] * 6


def test_no_card_while_the_keys_of_the_issuer_are_not_fetched_yet(
    serve: Serve, meter: Meter
) -> None:
    with Issuer("home", "ES256") as issuer:
        issuer.down = True
        service = serve(
            auth={
                "issuers": [{"name": "home", "issuer": issuer.name, "jwks_url": issuer.url}],
                "jwks_refresh_seconds": 1,
            }
        )
        with Gauge(service.url, issuer.token()) as gauge:
            eventually(lambda: ("notice", "KEYS_UNAVAILABLE") in gauge.seen, "the notice")
            issuer.down = False
            gauge.subscribed()
            service.ready()
            all_show([gauge], meter)
    assert gauge.cards == []


def test_no_card_on_a_page_that_lags(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1}, history={"max_frames": 50, "warm": 5}).ready()
    fields = {"active_power_total": 1}
    with Gauge(service.url, token(), small=True) as gauge:
        gauge.subscribed()
        gauge.stop_reading()
        # More than the buffers of the page's socket hold.
        for _ in range(10):
            records.send(50, fields=fields, pad="x" * 40_000)
            service.caught_up(records)
        service.wait_logged("client lags")
        gauge.read_on()
        eventually(lambda: ("lagged", None) in gauge.seen, "the page gets `lagged`")
        count = len(gauge.readings)
        records.send(1, fields=fields)
        eventually(lambda: len(gauge.readings) > count, "the page shows readings again")
    assert gauge.cards == []
    assert gauge.opens == 1
