"""The deployment files agree with the service: its keys, its times, its exit codes, its metrics.

The checks that need external tools are in test_tools.py and test_live.py.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

from energyws.control.admin.metrics import DEFINITIONS
from energyws.control.config.load import load
from energyws.errors import ExitCode
from energyws.settings import Admin, Server, Settings
from tests.deploy.files import (
    ALERT_TESTS,
    BASE,
    COMPOSE,
    CONFIG,
    PRODUCTION,
    PROMETHEUS_RULE,
    ROOT,
    UNIT,
    alerts,
    document,
    metrics_in,
    series_names,
)
from tests.deploy.prometheus_rule import rendered

# After it, the supervisor kills the rest of a drain: energyws.control.policy.fleet.
KILL_SECONDS: Final = 5
MARGIN_SECONDS: Final = 5


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "jwt_secret"
    path.write_text("s" * 40)
    return path


def literals(directory: Path) -> dict[str, str]:
    """The values in the ConfigMap energyws-environment of a kustomization."""
    (generator,) = [
        each
        for each in document(directory / "kustomization.yaml")["configMapGenerator"]
        if each["name"] == "energyws-environment"
    ]
    return dict(literal.split("=", 1) for literal in generator["literals"])


def pod() -> Any:
    return document(BASE / "deployment.yaml")["spec"]["template"]["spec"]


def settings(directory: Path, secret: Path) -> Settings:
    """The settings of a pod of that kustomization."""
    environment = {**literals(BASE), **literals(directory), "POD_NAME": "energyws-7d-x2"}
    overrides = [f"auth.jwt_secret_file={secret}"]
    return load(BASE / "config.yaml", env=environment, overrides=overrides)


def stop_seconds(server: Server) -> float:
    """The longest time that a stop may take."""
    drain = server.drain_delay_seconds + server.drain_seconds
    return drain + server.close_timeout_seconds + KILL_SECONDS


def unit() -> dict[str, list[str]]:
    """The values of each key of the unit; a key may occur more than once."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("directory", [BASE, PRODUCTION], ids=["base", "production"])
def test_a_pod_can_read_its_configuration(directory: Path, secret: Path) -> None:
    read = settings(directory, secret)
    assert read.kafka.group_id == "energyws-energyws-7d-x2"
    assert read.auth.jwt_secret == "s" * 40
    mounts = {mount["mountPath"] for mount in pod()["containers"][0]["volumeMounts"]}
    path = document(BASE / "config.yaml")["auth"]["jwt_secret_file"]
    assert str(Path(path).parent) in mounts


def test_ports_are_those_of_the_configuration(secret: Path) -> None:
    read = settings(BASE, secret)
    ports = {port["name"]: port["containerPort"] for port in pod()["containers"][0]["ports"]}
    assert ports == {"websocket": read.server.port, "metrics": read.admin.metrics_port}
    services = (BASE / "service.yaml").read_text().split("---")
    (named,) = [yaml.safe_load(each) for each in services if "energyws-metrics" in each]
    assert [each["port"] for each in named["spec"]["ports"]] == [ports["metrics"]]


def test_the_admin_port_stays_in_the_pod(secret: Path) -> None:
    read = settings(BASE, secret).admin
    assert read.host == Admin().host
    assert read.metrics_host == "0.0.0.0"
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    (container,) = pod()["containers"]
    assert {container[probe]["httpGet"]["port"] for probe in probes} == {"metrics"}


def test_files_agree_on_the_ports_for_operators() -> None:
    port = Admin().port
    scraped = document(CONFIG / "prometheus" / "prometheus.yaml")["scrape_configs"]
    assert [each["static_configs"][0]["targets"] for each in scraped] == [[f"127.0.0.1:{port}"]]
    port = document(BASE / "config.yaml")["admin"]["metrics_port"]
    assert f"check port {port} " in (CONFIG / "proxies" / "haproxy.cfg").read_text()
    routes = document(CONFIG / "proxies" / "traefik-routes.yaml")
    (service,) = routes["http"]["services"].values()
    assert service["loadBalancer"]["healthCheck"]["port"] == port


def test_a_shell_in_a_pod_finds_the_configuration() -> None:
    (container,) = pod()["containers"]
    (path,) = [each["value"] for each in container["env"] if each["name"] == "CONFIG_PATH"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert path == f"{mounts['config']}/config.yaml"
    assert container["args"] == ["serve"]


def test_a_pod_has_time_to_drain(secret: Path) -> None:
    (container,) = pod()["containers"]
    before = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    needed = before + stop_seconds(settings(BASE, secret).server)
    assert pod()["terminationGracePeriodSeconds"] >= needed + MARGIN_SECONDS
    assert "ENERGYWS_SERVER__DRAIN_SECONDS" not in literals(PRODUCTION)


def test_the_unit_has_time_to_drain() -> None:
    (seconds,) = unit()["TimeoutStopSec"]
    assert float(seconds) >= stop_seconds(Server()) + MARGIN_SECONDS


def test_the_compose_service_has_time_to_drain() -> None:
    seconds = document(COMPOSE)["services"]["energyws"]["stop_grace_period"]
    assert float(seconds.removesuffix("s")) >= stop_seconds(Server()) + MARGIN_SECONDS


def test_compose_can_read_its_configuration() -> None:
    compose = document(COMPOSE)["services"]
    assert all(set(each.get("depends_on", {})) <= set(compose) for each in compose.values())
    (volume,) = compose["energyws"]["volumes"]
    read = load(COMPOSE.parent / volume.split(":")[0], env={"JWT_SECRET": "s" * 40}, overrides=[])
    assert read.kafka.brokers.split(":")[0] in compose
    (port,) = compose["energyws"]["ports"]
    assert port == f"{read.server.port}:{read.server.port}"


def test_the_unit_does_not_restart_after_errors_that_a_restart_cannot_cure() -> None:
    (codes,) = unit()["RestartPreventExitStatus"]
    assert set(map(int, codes.split())) == {ExitCode.CONFIG, ExitCode.BOOT}


def test_images_have_this_version() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    version = setup["metadata"]["version"]
    (image,) = document(BASE / "kustomization.yaml")["images"]
    assert image["newTag"] == version
    used = {each["image"] for each in document(COMPOSE)["services"].values()}
    assert {name for name in used if name.startswith("energyws")} == {f"energyws:{version}"}


def test_every_alert_uses_existing_metrics() -> None:
    used = {name for rule in alerts() for name in metrics_in(rule["expr"])}
    assert used <= set(series_names())
    assert used


def test_labels_in_alerts_are_those_of_the_metrics() -> None:
    labels = {label for definition in DEFINITIONS for label in definition.labels}
    labels |= {"instance", "job", "severity", "le"}
    for rule in alerts():
        texts = [rule["expr"], *rule["annotations"].values()]
        named = set(re.findall(r"\$labels\.(\w+)", " ".join(texts)))
        for listed in re.findall(r"\b(?:by|without|on) \(([^)]*)\)", rule["expr"]):
            named |= set(re.split(r",\s*", listed))
        assert named <= labels, rule["alert"]


def test_every_alert_has_a_runbook_and_a_test() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text()
    anchors = {
        heading.strip().lower().replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.*)$", text)
    }
    fired = {
        case["alertname"]
        for test in document(ALERT_TESTS)["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    for rule in alerts():
        annotations = rule["annotations"]
        page, _, anchor = annotations["runbook"].partition("#")
        assert page == "docs/runbook.md"
        assert anchor in anchors
        # The templates of Alertmanager and Grafana show this link unchanged.
        link = urlsplit(annotations["runbook_url"])
        assert link.scheme == "https"
        assert link.netloc
        assert link.path.endswith("/runbook.md")
        assert link.fragment == anchor
        assert annotations["description"].endswith(".")
        assert len(annotations["description"]) > len(annotations["summary"])
        assert rule["alert"] in fired
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_the_operators_rules_are_the_same() -> None:
    assert PROMETHEUS_RULE.read_text() == rendered()
