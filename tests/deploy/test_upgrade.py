"""docs/upgrade.md agrees with the service: its keys, codes, log lines, ports and figures."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
import yaml

from energyws.control.config import load, schema
from energyws.control.config.rules import warnings
from energyws.control.host.memory import needed
from energyws.errors import CLOSES, ERROR_CODES
from energyws.settings import MIB, Admin, Level, Server
from tests.control.configs import GOOD
from tests.deploy.files import ROOT

PAGE = (ROOT / "docs" / "upgrade.md").read_text()
LOGS = (ROOT / "docs" / "logs.md").read_text()
EVENTS = re.findall(r"^\| `([^`]+)` \|", LOGS, re.MULTILINE)
# The default of terminationGracePeriodSeconds in Kubernetes.
GRACE_SECONDS = 30


def container() -> Any:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (found,) = yaml.safe_load(block)["spec"]["template"]["spec"]["containers"]
    return found


def rows(heading: str) -> list[list[str]]:
    table = PAGE.split(f"\n| {heading}", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")[2:]]


def test_log_lines_are_those_of_the_service() -> None:
    named = [
        name for _, now in rows("a line of energy-ws") for name in re.findall("`([^`]+)`", now)
    ]
    events = [name for name in named if not name.endswith("=")]
    assert len(events) > 5
    assert [name for name in events if name not in EVENTS] == []


def test_keys_exist() -> None:
    known = {".".join(map(str, path)) for path in schema.known_keys()}
    named = set(re.findall(r"`((?:kafka|server|auth|admin|log)\.[a-z_]+)", PAGE))
    assert len(named) > 5
    assert sorted(named - known) == []


def test_codes_exist() -> None:
    codes = {each.code for each in ERROR_CODES}
    named = {name for name in re.findall(r"`([A-Z]+_[A-Z_]+)`", PAGE) if "ENERGYWS" not in name}
    assert named - codes == {"JWT_SECRET", "CONFIG_PATH", "RUST_LOG"}
    closes = {close.code for close in CLOSES}
    assert {int(code) for code in re.findall(r"close code ([0-9]{4})", PAGE)} <= closes


def test_the_deployment_can_be_used_as_it_is() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports == {"http": Server().port, "metrics": 9464}
    env = {each["name"]: each["value"] for each in container()["env"]}
    settings = load.parse(GOOD, "config.yaml", env)
    assert settings.admin.host == Admin().host
    assert settings.admin.metrics_host == "0.0.0.0"
    assert settings.admin.metrics_port == ports["metrics"]
    assert warnings(settings) == []
    for probe, path in (("livenessProbe", "/live"), ("readinessProbe", "/ready")):
        assert container()[probe]["httpGet"] == {"path": path, "port": "metrics"}


def test_figures_are_the_defaults() -> None:
    server = Server()
    assert f"`server.drain_seconds` ({server.drain_seconds:g})" in PAGE
    assert f"pinged after {server.ping_interval_seconds:g} seconds" in PAGE
    assert f"{server.messages_per_second:g} messages a second" in PAGE
    assert f"{server.max_message_bytes // 1024} KiB a message" in PAGE
    auth = load.parse(GOOD, "config.yaml", {}).auth
    assert f"`TOKEN_EXPIRING` {auth.expiry_notice_seconds:g} seconds before" in PAGE
    assert f"again every {auth.jwks_refresh_seconds:g} seconds" in PAGE
    # The supervisor kills the rest of a drain after 5 s more: energyws.control.policy.fleet.
    stop = server.drain_delay_seconds + server.drain_seconds + server.close_timeout_seconds + 5
    assert stop < GRACE_SECONDS


def test_old_memory_limit_is_enough() -> None:
    settings = load.parse(GOOD, "config.yaml", {}, ["server.max_connections=1000"])
    assert needed(settings, 1).total <= 256 * MIB


@pytest.mark.parametrize("level", get_args(Level))
def test_level_can_be_set_as_described(level: str) -> None:
    assert load.parse(GOOD, "c.yaml", {"ENERGYWS_LOG__LEVEL": level}).log.level == level
