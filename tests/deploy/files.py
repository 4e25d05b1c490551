"""Reads the files of config/ for their tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from energyws.control.admin.metrics import DEFINITIONS

ROOT: Final = Path(__file__).parent.parent.parent
CONFIG: Final = ROOT / "config"
BASE: Final = CONFIG / "kubernetes" / "base"
PRODUCTION: Final = CONFIG / "kubernetes" / "overlays" / "production"
ALERTS: Final = CONFIG / "prometheus" / "alerts.yaml"
ALERT_TESTS: Final = CONFIG / "prometheus" / "alerts.test.yaml"
PROMETHEUS_RULE: Final = CONFIG / "kubernetes" / "monitoring" / "prometheusrule.yaml"
DASHBOARD: Final = CONFIG / "grafana" / "energyws.json"
COMPOSE: Final = CONFIG / "compose" / "docker-compose.yaml"
UNIT: Final = CONFIG / "systemd" / "energyws.service"

_METRIC: Final = re.compile(r"\benergyws_[a-z_]+")
_SUFFIXES: Final = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}


def series_names() -> dict[str, str]:
    """Every series name that a query may use, with the metric that it belongs to."""
    return {
        definition.name + suffix: definition.name
        for definition in DEFINITIONS
        for suffix in _SUFFIXES[definition.kind]
    }


def metrics_in(query: str) -> set[str]:
    """The names of energyws series in a query."""
    return set(_METRIC.findall(query))


def document(path: Path) -> Any:
    """The only document of a YAML file."""
    return yaml.safe_load(path.read_text())


def alerts() -> list[dict[str, Any]]:
    """The alerting rules."""
    return [rule for group in document(ALERTS)["groups"] for rule in group["rules"]]


def dashboard() -> Any:
    """The dashboard."""
    return json.loads(DASHBOARD.read_text())


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard, without its rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[dict[str, Any], str, str]]:
    """Each query of the dashboard: its panel, the query, and the legend of its lines."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel, target["expr"], target["legendFormat"]
