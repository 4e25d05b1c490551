"""The configurations that energy-ws was deployed with load without a warning."""

from __future__ import annotations

import pytest

from energyws.control.config import load
from energyws.control.config.rules import warnings
from energyws.settings import Issuer

COMMON = """\
kafka:
  brokers: "redpanda-v2.redpanda-v2.svc.cluster.local:9092"
  topic: "homelab-energy-realtime"
  group_id: "energy-ws"
  auto_offset_reset: "latest"  # live data only

server:
  host: "0.0.0.0"
  port: 8080
  max_connections: 1000

auth:
"""
HS256 = '  jwt_secret: "$(JWT_SECRET)"  # from the environment\n'
ONE = """\
  jwks_url: "https://idp.example/application/o/web/jwks/"
  issuer: "https://idp.example/application/o/web/"
"""
SEVERAL = """\
  issuers:
    # the native application
    - name: app
      issuer: "https://idp.example/application/o/app/"
      jwks_url: "https://idp.example/application/o/app/jwks/"
    - name: web
      issuer: "https://idp.example/application/o/web/"
      jwks_url: "https://idp.example/application/o/web/jwks/"
"""
SINGLE = """\
  issuers:
    - name: idp
      issuer: "https://idp.example"
      jwks_url: "https://idp.example/jwks.json"
"""
PLACEHOLDER = '\n  # not used beside the above\n  jwt_secret: "placeholder"\n'
COMMENTED = '\n  # the secret of before\n  # jwt_secret: "$(JWT_SECRET)"\n'
SHAPES = {
    "HS256": (HS256, {"JWT_SECRET": "0b14" * 16}, []),
    "one issuer, the secret in a comment": (ONE + COMMENTED, {}, ["default"]),
    "one issuer, a placeholder": (ONE + PLACEHOLDER, {}, ["default"]),
    "issuers, a placeholder": (SEVERAL + PLACEHOLDER, {}, ["app", "web"]),
    "issuers of one, a placeholder": (SINGLE + PLACEHOLDER, {}, ["idp"]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_configuration_of_energy_ws_loads_without_a_warning(shape: str) -> None:
    auth, env, issuers = SHAPES[shape]
    settings = load.parse(COMMON + auth, "config.yaml", env)
    assert warnings(settings) == []
    assert [each.name for each in settings.auth.issuers] == issuers
    assert all(isinstance(each, Issuer) for each in settings.auth.issuers)
    assert settings.streams["energy"].topic == "homelab-energy-realtime"
