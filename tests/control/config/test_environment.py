"""The variables that children do not get."""

from __future__ import annotations

import pytest

from energyws.control.config.environment import without_secrets
from energyws.settings import Admin, Auth, Kafka, SchemaRegistry, Settings

SETTINGS = Settings(
    kafka=Kafka(
        brokers="b",
        topic="t",
        options={"sasl.password": "user:part-of-a-password", "sasl.username": "somebody"},
    ),
    auth=Auth(jwt_secret="a-signing-key", jwt_secret_previous="an-older-key"),
    admin=Admin(token="an-operators-word"),
    schema_registry=SchemaRegistry(username="me", password="a-registrys-word"),
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_SECRET", "whatever"),
        ("ENERGYWS_ADMIN__TOKEN", "whatever"),
        ("energyws_server__port", "9000"),
        ("WS_TOKEN", "x"),
        ("SASL_PASSWORD", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("some_api_key", "x"),
        # By what is in them.
        ("SIGNING", "a-signing-key"),
        ("BEFORE", "an-older-key"),
        ("OPERATOR", "an-operators-word"),
        ("REGISTRY", "a-registrys-word"),
        ("BROKER_PW", "part-of-a-password"),
    ],
)
def test_secret_stays(name: str, value: str) -> None:
    assert without_secrets({name: value, "PATH": "/bin"}, SETTINGS) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PATH", "/usr/bin"),
        ("LANG", "C"),
        ("HOME", ""),
        ("SSL_CERT_FILE", "/etc/ssl/cert.pem"),
        ("HTTPS_PROXY", "http://proxy.example:3128"),
        ("PYTHONPATH", "/opt"),
        ("LD_PRELOAD", "/usr/lib/libjemalloc.so"),
        # Not secrets, or not whole ones.
        ("USER", "somebody"),
        ("LEVEL", "part-of"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
    ],
)
def test_anything_else_is_passed_on(name: str, value: str) -> None:
    assert without_secrets({name: value}, SETTINGS) == {name: value}


def test_settings_without_secrets_hold_nothing_back() -> None:
    empty = Settings(kafka=Kafka(brokers="b", topic="t", options={"sasl.password": ""}))
    assert without_secrets({"EMPTY": "", "A": "b"}, empty) == {"EMPTY": "", "A": "b"}
