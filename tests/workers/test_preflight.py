"""Settings that children cannot use; tests/control/reload/test_preflight.py runs the process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from energyws.settings import Auth, Kafka, Settings
from workers.preflight import faults

GOOD = Settings(kafka=Kafka(brokers="127.0.0.1:1", topic="t"), auth=Auth(jwt_secret="s" * 40))
PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"
BAD_AUTH = Auth(jwt_secret=PUBLIC_KEY)
BAD_KAFKA = replace(GOOD.kafka, options={"no.such.property": "x"})


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        (GOOD, []),
        (replace(GOOD, auth=BAD_AUTH), ["secret"]),
        (replace(GOOD, kafka=BAD_KAFKA), ["configuration"]),
        (replace(GOOD, auth=BAD_AUTH, kafka=BAD_KAFKA), ["secret", "configuration"]),
    ],
    ids=["none", "secret", "option", "both"],
)
def test_every_fault_is_found(settings: Settings, kinds: list[str]) -> None:
    assert [kind for kind, _ in faults(settings)] == kinds


def test_fault_names_the_key_and_no_value() -> None:
    ((_, secret), (_, option)) = faults(replace(GOOD, auth=BAD_AUTH, kafka=BAD_KAFKA))
    assert secret.startswith("auth.jwt_secret ")
    assert "BEGIN" not in secret
    assert option.startswith("kafka.options: librdkafka says: ")
