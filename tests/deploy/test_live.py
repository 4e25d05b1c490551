"""Dashboard and alert rules against a Prometheus that scrapes a running service."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from typing import Final

import pytest

from energyws.testing import Service, eventually
from tests.deploy.files import alerts, metrics_in, queries
from tests.deploy.live import CLIENTS, Prometheus, line_name, running
from tests.deploy.tools import output, run

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(180)]
# A rate needs several scrapes.
PATIENCE_SECONDS: Final = 60


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Prometheus]]:
    with running(tmp_path_factory.mktemp("live")) as both:
        yield both


def test_every_query_of_the_dashboard_has_data(scraped: tuple[Service, Prometheus]) -> None:
    _, prometheus = scraped
    for panel, query, _ in queries():
        eventually(
            lambda query=query: prometheus.query(query),
            f"{panel['title']}: {query}",
            PATIENCE_SECONDS,
        )


def test_lines_of_a_panel_have_different_names(scraped: tuple[Service, Prometheus]) -> None:
    _, prometheus = scraped
    for panel, query, legend in queries():
        names = [line_name(legend, each["metric"]) for each in prometheus.query(query)]
        assert len(set(names)) == len(names), panel["title"]
        assert all(names), panel["title"]


def test_figures_are_those_of_the_service(scraped: tuple[Service, Prometheus]) -> None:
    _, prometheus = scraped
    expressions = {panel["title"]: query for panel, query, _ in queries()}

    def value(title: str) -> float:
        (series,) = prometheus.query(expressions[title])
        return float(series["value"][1])

    assert value("Replicas ready") == 1
    assert value("Draining") == 0
    # One more client comes and goes.
    eventually(lambda: CLIENTS <= value("Clients") <= CLIENTS + 1, "all clients are counted")
    assert value("Age at delivery, p99") < 5


def test_every_rule_works_and_no_alert_fires(scraped: tuple[Service, Prometheus]) -> None:
    _, prometheus = scraped
    rules = eventually(
        lambda: (
            (found := prometheus.rules())
            and all(rule["health"] != "unknown" for rule in found)
            and found
        ),
        "all rules were evaluated",
    )
    assert {rule["name"] for rule in rules} == {rule["alert"] for rule in alerts()}
    for rule in rules:
        assert rule["health"] == "ok", rule.get("lastError")
        assert rule["state"] != "firing", rule["name"]


def test_alerts_use_existing_series(scraped: tuple[Service, Prometheus]) -> None:
    _, prometheus = scraped
    for rule in alerts():
        for name in metrics_in(rule["expr"]):
            assert prometheus.query(name), f"{rule['alert']}: {name}"


def test_promtool_has_no_complaint_about_the_metrics(scraped: tuple[Service, Prometheus]) -> None:
    service, _ = scraped
    url = f"http://127.0.0.1:{service.admin_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    done = run("promtool", "check", "metrics", input=text)
    assert done.returncode == 0, output(done)
