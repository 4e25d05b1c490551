"""The dashboard fits Grafana and the metrics; test_live.py runs its queries."""

from __future__ import annotations

import re

from energyws.control.admin.metrics import DEFINITIONS
from tests.deploy.files import dashboard, metrics_in, panels, queries, series_names


def test_every_query_uses_existing_metrics() -> None:
    names = series_names()
    for panel, query, _ in queries():
        used = metrics_in(query)
        assert used, panel["title"]
        assert used <= set(names), panel["title"]


def test_every_metric_is_shown() -> None:
    names = series_names()
    shown = {names[name] for _, query, _ in queries() for name in metrics_in(query)}
    assert shown == {definition.name for definition in DEFINITIONS}


def test_every_query_is_limited_to_the_chosen_replicas() -> None:
    for _, query, _ in queries():
        selectors = re.findall(r"energyws_[a-z_]+(\{[^}]*\})?", query)
        assert all('job="energyws", instance=~"$instance"' in each for each in selectors)


def test_legends_use_labels_of_the_metric() -> None:
    labels = {definition.name: set(definition.labels) for definition in DEFINITIONS}
    names = series_names()
    for panel, query, legend in queries():
        known = {"instance"}.union(*(labels[names[each]] for each in metrics_in(query)))
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= known, panel["title"]


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_panels_have_a_title_a_description_and_a_unit() -> None:
    variables = {f"${each['name']}" for each in dashboard()["templating"]["list"]}
    for panel in panels():
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] in variables
