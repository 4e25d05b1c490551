"""No message and no description shows a secret."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.control.config import load, schema, yaml_tree
from energyws.control.config.problems import KeyPath
from energyws.control.config.rules import warnings
from energyws.errors import ConfigError
from energyws.settings import Settings
from tests.control.configs import CANARY, GOOD, KAFKA, yaml


def _whole_error(text: str, env: Mapping[str, str], flags: Sequence[str] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        load.parse(text, "c.yaml", env, flags)
    return repr(caught.value) + "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "text",
    [
        f"auth: {{jwt_secret: {CANARY}}}",
        f"auth: {{jwt_secret: [{CANARY}]}}",
        f"auth: {{jwt_secret: {{{CANARY}: {CANARY}}}}}",
        f"auth: {{jwt_secrt: {CANARY}}}",
        f"auth: {{jwt_secret: {CANARY}, jwt_secret: {CANARY}}}",
        f"auth: {CANARY}",
        f"auth: [{CANARY}]",
        f"auth: {{issuers: {CANARY}}}",
        f"kafka: {CANARY}",
        f"schema_registry: {CANARY}",
        f"schema_registry: {{password: [{CANARY}]}}",
        f"schema_registry: {{password: {CANARY}}}",
        f"schema_registry: {{url: 'ftp://me:{CANARY}@h/'}}",
        f"kafka: {{options: {CANARY}}}",
        f"kafka: {{options: {{sasl.password: [{CANARY}]}}}}",
        f"kafka: {{options: {{ssl.key.password: {{a: {CANARY}}}}}}}",
        f"kafka: {{brokers: 5, options: {{sasl.password: {CANARY}}}}}",
        f"auth: {{jwks_url: 'ftp://me:{CANARY}@h/', issuer: i}}",
        CANARY,
        f"- {CANARY}",
        *[f"auth:\n  jwt_secret: {mark}{CANARY}" for mark in "*&!@`%'\"[{|>"],
        f"auth:\n  jwt_secret: !<{CANARY}> x",
        f"auth:\n  jwt_secret: !{CANARY}!x x",
        f"auth:\n  jwt_secret: a: {CANARY}",
        f"auth:\n  jwt_secret: {CANARY}: a",
        f"auth:\n\tjwt_secret: {CANARY}",
        f"%{CANARY} x\n---\na: b",
    ],
)
def test_no_error_shows_a_secret_of_the_file(text: str) -> None:
    assert CANARY not in _whole_error(text, {})


@settings(deadline=None)
@given(
    st.text(alphabet="*&!@`%'\"[]{}|>#:,?-<= \\\n\tx$()"),
    st.text(alphabet="*&!@`%'\"[]{}|>#:,?-<= \\\n\tx$()"),
)
def test_no_error_shows_a_secret_whatever_is_around_it(before: str, after: str) -> None:
    text = f"log: {{level: 5}}\nauth:\n  jwt_secret: {before}{CANARY}{after}"

    # Skip texts that make the secret a key.
    if re.search(rf"\n.*{CANARY}", before + CANARY):
        return
    assert CANARY not in _whole_error(text, {})


@pytest.mark.parametrize(
    "path", [p for p in schema.known_keys() if not schema.keys(schema.at(p))], ids=str
)
def test_no_error_shows_the_value_of_a_variable(path: KeyPath) -> None:
    tree: dict[str, Any] = {"log": {"format": 5}}
    section = tree
    for part in path[:-1]:
        section = section.setdefault(str(part), {})
    section[str(path[-1])] = "$(X)"

    assert CANARY not in _whole_error(yaml_tree.write(tree), {"X": CANARY})


@pytest.mark.parametrize(
    ("env", "flags"),
    [
        ({"ENERGYWS_AUTH__JWT_SECRT": CANARY}, []),
        ({"ENERGYWS_AUTH": CANARY}, []),
        ({"ENERGYWS_AUTH__JWT_SECRET__X": CANARY}, []),
        ({"ENERGYWS_AUTH__ISSUERS": CANARY}, []),
        ({"ENERGYWS_AUTH__ISSUERS": f"[{CANARY}"}, []),
        ({"ENERGYWS_AUTH__JWT_SECRET": CANARY + "\udcff"}, []),
        ({"ENERGYWS_KAFKA__OPTIONS__SASL_PASSWORD": CANARY + "\udcff"}, []),
        ({}, ["auth.jwt_secrt=" + CANARY]),
        ({}, [CANARY]),
        ({}, ["auth=" + CANARY]),
    ],
)
def test_no_error_shows_a_secret_of_an_override(env: dict[str, str], flags: list[str]) -> None:
    assert CANARY not in _whole_error(GOOD, env, flags)


SECRETS = f"""\
kafka:
  brokers: b
  topic: t
  options:
    sasl.password: {CANARY}
    sasl.username: me
    ssl.key.pem: {CANARY}
    sasl.oauthbearer.client.secret: {CANARY}
    sasl.oauthbearer.config: {CANARY}
    some.token: {CANARY}
schema_registry: {{username: me, password: {CANARY}}}
auth:
  jwt_secret: {CANARY}
  jwt_secret_previous: {CANARY}
  audience: $$(X)
"""


def test_the_description_shows_everything_but_secrets() -> None:
    settings = load.parse(SECRETS, "c.yaml", {})

    text = load.describe(settings)

    assert CANARY not in text + repr(settings) + "".join(warnings(settings))
    tree = yaml(text)
    assert list(tree) == [each.name for each in fields(Settings)]
    assert tree["auth"]["jwt_secret"] == tree["auth"]["jwt_secret_previous"] == "***"
    assert tree["auth"]["audience"] == "$$(X)"
    assert tree["kafka"]["options"]["sasl.username"] == "me"
    assert list(tree["kafka"]["options"].values()).count("***") == 5
    assert tree["server"]["port"] == 8080
    assert tree["streams"]["energy"]["topic"] == "t"


def test_the_description_shows_no_password_inside_a_url() -> None:
    flag = f"auth.issuers=[{{name: n, issuer: 'https://me:{CANARY}@h/', jwks_url: 'https://h/'}}]"

    text = load.describe(load.parse(GOOD, "c.yaml", {}, [flag]))

    assert yaml(text)["auth"]["issuers"][0]["issuer"] == "https://***@h/"


def test_the_description_shows_that_there_is_no_secret() -> None:
    text = KAFKA + "auth: {issuer: i, jwks_url: 'https://i.example/'}\n"

    tree = yaml(load.describe(load.parse(text, "c.yaml", {})))

    assert tree["auth"]["jwt_secret"] is None


LINES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029@"), min_size=1
)

ORIGINS = st.integers(1, 65535).map(lambda port: f"HTTPS://a.example:{port}/")


@settings(deadline=None)
@given(LINES, LINES, st.lists(ORIGINS), st.integers(1, 64) | st.just("auto"))
def test_a_description_without_secrets_can_be_loaded_again(
    brokers: str, topic: str, origins: list[str], workers: int | str
) -> None:
    tree = {
        "kafka": {"brokers": brokers, "topic": topic, "options": {"debug": topic, "x": True}},
        "server": {
            "workers": workers,
            "allowed_origins": origins,
            "tls": {"cert": topic, "key": "k"},
        },
        "auth": {"issuer": "i", "jwks_url": "https://i.example/", "jwt_secret": None},
    }
    text = yaml_tree.write(tree).replace("$(", "$$(")
    settings = load.parse(text, "c.yaml", {})

    assert settings.kafka.brokers == brokers
    assert load.parse(load.describe(settings), "again.yaml", {}) == settings
