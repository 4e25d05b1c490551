"""/metrics of the real service counts the events that happened."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from typing import Final

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text_format
from websockets.exceptions import InvalidStatus

from energyws.control.admin.metrics import DEFINITIONS
from energyws.testing import PARTITIONS, Records, Service, eventually, token
from tests.clients import open_peer

pytestmark = pytest.mark.e2e
Serve = Callable[..., Service]

OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"


class Scrape:
    """One answer of /metrics."""

    def __init__(self, service: Service, accept: str = OPENMETRICS) -> None:
        url = f"http://127.0.0.1:{service.admin_port}/metrics"
        request = urllib.request.Request(url, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=5) as answer:
            self.content_type = answer.headers["Content-Type"]
            text = answer.read().decode()
        parse = openmetrics if "openmetrics" in self.content_type else text_format
        self.families = {family.name: family for family in parse(text)}

    def __getitem__(self, name: str) -> float:
        """The sum of all samples of this name: `energyws_x_total`, or with labels behind it."""
        return self.sum(name)

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain;version=0.0.4"])
def test_a_scrape_has_every_metric_with_type_and_help(
    service: Service, producer: Records, accept: str
) -> None:
    producer.send(PARTITIONS)
    service.caught_up(producer)
    # The age of the oldest record in memory follows a moment later.
    eventually(lambda: Scrape(service)["energyws_history_seconds"], "records are in memory")
    scrape = Scrape(service, accept)
    assert scrape.content_type.startswith(accept.partition(";")[0])
    found = {
        (name, family.type, family.documentation)
        for name, family in scrape.families.items()
        if family.samples
    }
    # This service checks tokens with a secret, not with issuers' keys; it has no certificate, and
    # no snapshots.
    expected = [
        each
        for each in DEFINITIONS
        if "issuer" not in each.labels
        and "certificate" not in each.name
        and "snapshot" not in each.name
    ]
    assert found == {(each.name, each.kind, each.help) for each in expected}


def test_events_of_clients_are_counted(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1}).ready()
    with pytest.raises(InvalidStatus):
        open_peer(service, additional_headers={"Authorization": "Bearer x.y.z"})
    with pytest.raises(InvalidStatus):
        expired = token(seconds=-3600)
        open_peer(service, additional_headers={"Authorization": f"Bearer {expired}"})
    with open_peer(service) as first, open_peer(service) as second:
        position = first.subscribe()["position"]
        second.subscribe()
        records.send(6)
        assert sorted(first.numbers(6)) == sorted(second.numbers(6))
        scrape = Scrape(service)
        assert scrape["energyws_connections"] == 2
        assert scrape.sum("energyws_handshakes_total", result="accepted") == 2
        assert scrape.sum("energyws_handshakes_total", result="unauthorized") == 1
        assert scrape.sum("energyws_handshakes_total", result="token_expired") == 1
        assert scrape.sum("energyws_token_refusals_total", reason="malformed") == 1
        assert scrape.sum("energyws_token_refusals_total", reason="expired") == 1
        assert scrape["energyws_frames_published_total"] == 6
        assert scrape["energyws_frames_received_total"] == 6
        assert scrape["energyws_deliveries_total"] == 12
        assert 2 <= scrape["energyws_writes_total"] <= 12
        assert scrape["energyws_sent_bytes_total"] > 12 * 50
        batches = scrape["energyws_fanout_seconds_count"]
        assert 1 <= batches == scrape["energyws_delivery_age_seconds_count"] <= 6
        assert scrape["energyws_ready"] == 1
        assert scrape["energyws_broker_up"] == 1
        assert scrape["energyws_consumer_lag_records"] == 0
        with open_peer(service) as third:
            assert third.subscribe(resume={"energy": position})["recovered"]
            assert sorted(third.numbers(6)) == list(range(6))
        scrape = Scrape(service)
        assert scrape.sum("energyws_resumes_total", depth="memory", result="recovered") == 1
    eventually(lambda: Scrape(service)["energyws_connections"] == 0, "all clients have left")
    assert Scrape(service).sum("energyws_closes_total", by="client") == 3


def test_counters_outlive_the_process(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1}).ready()
    with open_peer(service) as peer:
        peer.subscribe()
        records.send(3)
        peer.numbers(3)
        assert Scrape(service)["energyws_deliveries_total"] == 3
        service.children()["worker-0"].kill()
        eventually(
            lambda: (
                Scrape(service).sum(
                    "energyws_process_exits_total", process="worker-0", reason="killed"
                )
                == 1
            ),
            "the end is counted",
        )
    service.ready()
    scrape = Scrape(service)
    assert scrape["energyws_deliveries_total"] == 3
    assert scrape["energyws_connections"] == 0
    assert scrape.sum("energyws_process_starts_total", process="worker-0") == 2
    with open_peer(service) as peer:
        peer.subscribe()
        records.send(2)
        peer.numbers(2)
        assert Scrape(service)["energyws_deliveries_total"] == 5


def test_records_of_a_stream_outlive_their_consumer(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1}, history={"warm": 0}).ready()
    name = "energyws_bad_records_total"
    newest = "energyws_newest_record_timestamp_seconds"
    assert Scrape(service).sum(name, stream="energy") == 0
    assert not Scrape(service).sum(newest, stream="energy")
    for partition in (0, 1, 1):
        records.raw(b"no JSON", partition)
    records.flush()
    eventually(lambda: Scrape(service).sum(name, stream="energy") == 3, "the records are counted")
    assert time.time() - Scrape(service).sum(newest, stream="energy") < 60
    service.children()["consumer"].kill()
    service.wait_logged("child started", "child=consumer", "restarts=1")
    service.ready()
    assert Scrape(service).sum(name, stream="energy") == 3
