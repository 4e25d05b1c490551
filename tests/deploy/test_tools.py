"""Checks the files in config/ with the tools that will read them: `make check-deploy`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.deploy.files import (
    ALERT_TESTS,
    ALERTS,
    BASE,
    COMPOSE,
    CONFIG,
    PRODUCTION,
    UNIT,
    alerts,
    document,
)
from tests.deploy.tools import compose_schema, operator_definitions, output, run

pytestmark = pytest.mark.deploy

# The oldest supported Kubernetes: it has unhealthyPodEvictionPolicy and matchLabelKeys enabled.
OLDEST: Final = "1.27"
OPERATOR: Final = "monitoring.coreos.com/v1"
# `systemd-analyze security` rates from 0 (locked down) to 10 (open). Most of what is left is the
# network.
EXPOSURE: Final = 1.2


def built(directory: Path) -> list[dict[str, Any]]:
    done = run("kustomize", "build", directory)
    assert done.returncode == 0, output(done)
    assert not done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one(resources: list[dict[str, Any]], kind: str, name: str = "energyws") -> dict[str, Any]:
    (found,) = (
        each for each in resources if each["kind"] == kind and each["metadata"]["name"] == name
    )
    return found


def strictly(schema: Any) -> Any:
    """The same schema, but it rejects keys that it does not name, as kubectl does."""
    if isinstance(schema, list):
        return [strictly(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: strictly(each) for key, each in schema.items()}
    if isinstance(schema.get("properties"), dict):
        strict.setdefault("additionalProperties", False)
    return strict


def validate_custom(resource: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    path = operator_definitions() / f"monitoring.coreos.com_{resource['kind'].lower()}s.yaml"
    (version,) = (each for each in document(path)["spec"]["versions"] if each["name"] == "v1")
    schema = strictly(version["schema"]["openAPIV3Schema"])
    # The definition does not describe the metadata, which must then not be strict.
    schema["properties"]["metadata"] = {"type": "object"}
    Draft202012Validator(schema).validate(resource)


def validate(resource: dict[str, Any], version: str) -> None:
    import kubernetes_validate

    if resource["apiVersion"] == OPERATOR:
        validate_custom(resource)
    else:
        kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("directory", [BASE, PRODUCTION], ids=["base", "production"])
def test_kubernetes_accepts_the_manifests(directory: Path) -> None:
    import kubernetes_validate

    for resource in built(directory):
        for version in (OLDEST, kubernetes_validate.latest_version()):
            validate(resource, version)


@pytest.mark.parametrize("kind", ["Deployment", "ServiceMonitor", "PrometheusRule"])
def test_an_unknown_key_is_rejected(kind: str) -> None:
    from jsonschema import ValidationError

    resource = one(built(PRODUCTION), kind)
    resource["spec"]["replica"] = 2
    with pytest.raises(ValidationError, match="replica"):
        validate(resource, OLDEST)


@pytest.mark.parametrize("directory", [BASE, PRODUCTION], ids=["base", "production"])
def test_every_reference_has_a_target(directory: Path) -> None:
    resources = built(directory)
    names = {(each["kind"], each["metadata"]["name"]) for each in resources}
    deployment = one(resources, "Deployment")
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    assert ("ServiceAccount", pod["spec"]["serviceAccountName"]) in names
    for each in container["envFrom"]:
        assert ("ConfigMap", each["configMapRef"]["name"]) in names
    for volume in pod["spec"]["volumes"]:
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in names
    for name in ("energyws", "energyws-metrics"):
        service = one(resources, "Service", name)
        assert service["spec"]["selector"].items() <= labels
        ports = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    budget = one(resources, "PodDisruptionBudget")
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels
    scaler = one(resources, "HorizontalPodAutoscaler")
    assert ("Deployment", scaler["spec"]["scaleTargetRef"]["name"]) in names


def test_a_network_policy_allows_no_more_than_needed() -> None:
    for directory, ports in (
        (BASE, {"websocket"}),
        # Metrics only with the component for Prometheus.
        (PRODUCTION, {"websocket", "metrics"}),
    ):
        resources = built(directory)
        deployment = one(resources, "Deployment")
        labels = deployment["spec"]["template"]["metadata"]["labels"].items()
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        policies = [each["spec"] for each in resources if each["kind"] == "NetworkPolicy"]
        allowed = {}
        for policy in policies:
            assert policy["podSelector"]["matchLabels"].items() <= labels
            assert policy["policyTypes"] == ["Ingress"]
            (rule,) = policy["ingress"]
            (port,) = rule["ports"]
            allowed[port["port"]] = rule.get("from")
        assert allowed.keys() == ports <= {port["name"] for port in container["ports"]}
        assert allowed["websocket"] is None
    (prometheus,) = allowed["metrics"]
    assert prometheus["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}


def test_the_service_monitor_selects_only_the_service_for_metrics() -> None:
    resources = built(PRODUCTION)
    monitor = one(resources, "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    (service,) = (
        each
        for each in resources
        if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
    )
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "energyws"


def test_the_overlay_sets_namespace_metrics_and_environment() -> None:
    resources = built(PRODUCTION)
    assert {each["metadata"]["namespace"] for each in resources} == {"energy"}
    metrics = one(resources, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [each["type"] for each in metrics] == ["Pods", "Resource"]
    (settings,) = (
        each["data"]
        for each in resources
        if each["metadata"]["name"].startswith("energyws-environment-")
    )
    assert "ENERGYWS_KAFKA__TOPIC" in settings
    assert "redpanda-1" in settings["ENERGYWS_KAFKA__BROKERS"]


def test_the_overlay_links_to_its_own_runbook() -> None:
    rules = one(built(PRODUCTION), "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert [each["annotations"]["runbook_url"] for each in rules] == [
        each["annotations"]["runbook"].replace("docs/", "https://wiki.example/energyws/")
        for each in alerts()
    ]
    named = {each["metadata"]["name"] for each in built(PRODUCTION) if each["kind"] == "ConfigMap"}
    assert not any("runbook" in name for name in named)


def test_the_overlay_may_have_a_seccomp_profile_with_io_uring(tmp_path: Path) -> None:
    # kustomize takes no path from / and no file above the directory that it builds.
    shutil.copytree(CONFIG, tmp_path / "config")
    overlay = tmp_path / "config" / PRODUCTION.relative_to(CONFIG)
    kustomization = overlay / "kustomization.yaml"
    kustomization.write_text(
        kustomization.read_text().replace("#- ../../io-uring", "- ../../io-uring")
    )
    deployment = one(built(overlay), "Deployment")
    validate(deployment, OLDEST)
    assert deployment["spec"]["template"]["spec"]["securityContext"]["seccompProfile"] == {
        "type": "Localhost",
        "localhostProfile": "profiles/energyws-seccomp-pod.json",
    }


def test_prometheus_accepts_the_rules() -> None:
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", ALERTS)
    assert done.returncode == 0, output(done)
    done = run("promtool", "check", "config", CONFIG / "prometheus" / "prometheus.yaml")
    assert done.returncode == 0, output(done)


def test_alerts_fire_when_they_should() -> None:
    done = run("promtool", "test", "rules", ALERT_TESTS)
    assert done.returncode == 0, output(done)


def test_compose_file_follows_the_specification() -> None:
    from jsonschema import Draft7Validator, ValidationError

    validator = Draft7Validator(compose_schema())
    compose = document(COMPOSE)
    validator.validate(compose)
    compose["services"]["energyws"]["cap_dropp"] = []
    with pytest.raises(ValidationError, match="cap_dropp"):
        validator.validate(compose)


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    # Nothing is installed in /opt here.
    text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", UNIT.read_text())
    unit = tmp_path / UNIT.name
    unit.write_text(text)
    done = run("systemd-analyze", "verify", "--man=no", unit)
    assert (done.returncode, output(done)) == (0, "")
    # systemd only warns about an unknown key.
    unit.write_text(text.replace("WatchdogSec=", "WatchdogSecs="))
    assert "Unknown key" in output(run("systemd-analyze", "verify", "--man=no", unit))


def system_calls(filtered: str) -> set[str]:
    """Those that a filter names, by themselves or in sets."""
    waiting, found = filtered.split(), set()
    while waiting:
        name = waiting.pop()
        found.add(name)
        if name.startswith("@"):
            listed = run("systemd-analyze", "syscall-filter", name).stdout.splitlines()[1:]
            waiting += [each.strip() for each in listed if not each.strip().startswith("#")]
    return found


def test_the_unit_allows_io_uring() -> None:
    allowed: set[str] = set()
    # Each line adds to those before it, or takes away.
    for sign, filtered in re.findall(r"(?m)^SystemCallFilter=(~?)(.*)$", UNIT.read_text()):
        allowed = allowed - system_calls(filtered) if sign else allowed | system_calls(filtered)
    assert {"io_uring_setup", "io_uring_enter"} <= allowed
    assert not {"chroot", "mbind", "setrlimit"} & allowed
    # setrlimit(3) of libc.
    assert "prlimit64" in allowed


def test_the_unit_is_locked_down() -> None:
    done = run("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT)
    assert done.returncode == 0, output(done)
    (level,) = re.findall(r"Overall exposure level for energyws.service: ([0-9.]+)", done.stdout)
    assert float(level) <= EXPOSURE
