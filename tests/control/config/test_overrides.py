from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.control.config import load
from energyws.settings import Issuer
from tests.control.configs import GOOD, problems_of

TOP_LEVEL = (
    "the top level has kafka, streams, schema_registry, server, limits, auth, history, bus, "
    "supervision, admin, log"
)
ISSUERS = "a list, each item a mapping with the keys name, issuer, jwks_url"


@pytest.mark.parametrize(
    ("file", "environment", "flags", "port"),
    [
        ("", {}, [], 8080),
        ("server: {port: 1}", {}, [], 1),
        ("server: {port: 1}", {"ENERGYWS_SERVER__PORT": "2"}, [], 2),
        ("server: {port: 1}", {"ENERGYWS_SERVER__PORT": "2"}, ["server.port=3"], 3),
        ("server: {port: 1}", {}, ["server.port=3"], 3),
        ("", {"ENERGYWS_SERVER__PORT": "2"}, ["server.port=3"], 3),
        ("", {}, ["server.port=3", "server.port=4"], 4),
        ("server: {port: wrong}", {"ENERGYWS_SERVER__PORT": "2"}, [], 2),
        ("server:", {"ENERGYWS_SERVER__PORT": "2"}, [], 2),
    ],
)
def test_flags_win_over_environment_over_file_over_defaults(
    file: str, environment: dict[str, str], flags: list[str], port: int
) -> None:
    assert load.parse(GOOD + file, "c.yaml", environment, flags).server.port == port


@pytest.mark.parametrize(
    ("text", "on"), [("on", True), ("true", True), ("off", False), ("false", False)]
)
def test_a_boolean_may_be_set_anywhere(text: str, on: bool) -> None:
    name = "ENERGYWS_SERVER__COMPRESSION"
    for parsed in (
        load.parse(f"{GOOD}server: {{compression: {text}}}", "c.yaml", {}),
        load.parse(GOOD, "c.yaml", {name: text}),
        load.parse(GOOD, "c.yaml", {}, [f"server.compression={text}"]),
    ):
        assert parsed.server.compression is on


@pytest.mark.parametrize("text", ["off", "Off", '"off"', "auto"])
def test_a_word_that_yaml_reads_as_a_boolean_stays_a_word(text: str) -> None:
    word = text.strip('"').lower()
    for parsed in (
        load.parse(f"{GOOD}server: {{io_uring: {text}}}", "c.yaml", {}),
        load.parse(GOOD, "c.yaml", {"ENERGYWS_SERVER__IO_URING": word}),
        load.parse(GOOD, "c.yaml", {}, [f"server.io_uring={word}"]),
    ):
        assert parsed.server.io_uring == word
        # What `check-config` prints must mean the same again.
        assert yaml.safe_load(load.describe(parsed))["server"]["io_uring"] == word


@pytest.mark.parametrize("text", ["on", "true", "false", "no", "1"])
def test_any_other_boolean_in_place_of_a_word_is_refused(text: str) -> None:
    (in_file,) = problems_of(f"{GOOD}server: {{io_uring: {text}}}")
    (by_flag,) = problems_of(GOOD, {}, [f"server.io_uring={text}"])

    assert in_file.endswith(f"server.io_uring: found {text}: use auto or off")
    assert by_flag == f'--set: server.io_uring: found "{text}": use auto or off'


def test_an_overridden_value_needs_no_variables() -> None:
    text = 'kafka: {brokers: b, topic: t}\nauth: {jwt_secret: "$(UNSET)"}\n'

    settings = load.parse(text, "c.yaml", {"ENERGYWS_AUTH__JWT_SECRET": "x"})

    assert settings.auth.jwt_secret == "x"


@pytest.mark.parametrize("name", ["ENERGYWS_SERVER__HOST", "energyws_server__host"])
def test_variables_count_in_any_case(name: str) -> None:
    assert load.parse(GOOD, "c.yaml", {name: "h"}).server.host == "h"


@pytest.mark.parametrize("text", ["12345", "yes", "null", "1e3", "[a]", "~", "'", "$(HOME)", "$$("])
def test_a_string_is_never_read_as_anything_else(text: str) -> None:
    by_variable = load.parse(GOOD, "c.yaml", {"ENERGYWS_AUTH__JWT_SECRET": text})
    by_flag = load.parse(GOOD, "c.yaml", {}, [f"auth.jwt_secret={text}"])

    assert by_variable.auth.jwt_secret == text
    assert by_flag.auth.jwt_secret == text


@settings(deadline=None)
@given(st.text(min_size=1).filter(lambda text: text != "***"))
def test_every_string_arrives_as_it_was_typed(text: str) -> None:
    settings = load.parse(
        GOOD, "c.yaml", {"ENERGYWS_AUTH__JWT_SECRET": text}, [f"auth.audience={text}"]
    )

    assert (settings.auth.jwt_secret, settings.auth.audience) == (text, text)


def test_numbers_choices_and_lists_are_read_by_the_type_of_their_key() -> None:
    settings = load.parse(
        GOOD,
        "c.yaml",
        {
            "ENERGYWS_SERVER__WORKERS": "4",
            "ENERGYWS_SERVER__DRAIN_SECONDS": "0.5",
            "ENERGYWS_SERVER__ALLOWED_ORIGINS": "[https://a.example, https://b.example]",
        },
        ["auth.issuers=[{name: n, issuer: i, jwks_url: https://i.example/}]", "log.level=DEBUG"],
    )

    assert settings.server.workers == 4
    assert settings.server.drain_seconds == 0.5
    assert settings.server.allowed_origins == ("https://a.example", "https://b.example")
    assert settings.auth.issuers == (Issuer(name="n", issuer="i", jwks_url="https://i.example/"),)
    assert settings.log.level == "DEBUG"
    assert load.parse(GOOD, "c.yaml", {}, ["server.workers=auto"]).server.workers == "auto"


def test_a_list_in_a_variable_replaces_the_one_of_the_file() -> None:
    text = GOOD + "server:\n  allowed_origins:\n    - https://a.example\n    - $(UNSET)\n"

    # Nor are variables inside a variable filled in.
    (problem,) = problems_of(text, {"ENERGYWS_SERVER__ALLOWED_ORIGINS": "[$(NO)]"})

    assert "ENERGYWS_SERVER__ALLOWED_ORIGINS: server.allowed_origins[0]: found $(NO): " in problem


def test_free_keys_may_hold_dots() -> None:
    settings = load.parse(
        GOOD,
        "c.yaml",
        {
            "ENERGYWS_KAFKA__OPTIONS__SASL_PASSWORD": "1",
            "ENERGYWS_KAFKA__OPTIONS__SASL.USERNAME": "2",
            "ENERGYWS_STREAMS__GAS_METER__TOPIC": "g",
        },
        ["kafka.options.ssl.ca.location=/ca.pem", "streams.heat.pump.topic=h"],
    )

    assert settings.kafka.options == {
        "sasl.password": "1",
        "sasl.username": "2",
        "ssl.ca.location": "/ca.pem",
    }
    assert {name: stream.topic for name, stream in settings.streams.items()} == {
        "energy": "t",
        "gas_meter": "g",
        "heat.pump": "h",
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ENERGYWS_SERVICE_HOST", "10.0.0.1"),
        ("ENERGYWS_SERVICE_PORT", "8080"),
        ("ENERGYWS_SERVICE_PORT_HTTP", "8080"),
        ("ENERGYWS_PORT", "tcp://10.0.0.1:8080"),
        ("ENERGYWS_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("ENERGYWS_PORT_8080_TCP_PROTO", "tcp"),
        ("ENERGYWS_PORT_8080_TCP_PORT", "8080"),
        ("ENERGYWS_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("ENERGYWS_ADMIN_SERVICE_HOST", "10.0.0.1"),
        ("ENERGYWS_ADMIN_PORT", "tcp://10.0.0.1:8490"),
    ],
)
def test_service_variables_of_kubernetes_are_ignored(name: str, text: str) -> None:
    assert problems_of(GOOD, {name: text}) == []


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("SERVER__PROT", "1", "server.prot: unknown key: did you mean ENERGYWS_SERVER__PORT?"),
        ("SERVER_PORT", "1", "server_port: unknown key: did you mean ENERGYWS_SERVER__PORT?"),
        (
            "PORT",
            "1",
            "port: unknown key: did you mean ENERGYWS_SERVER__PORT or ENERGYWS_ADMIN__PORT?",
        ),
        (
            "SERVER__GROUP_ID",
            "x",
            "server.group_id: unknown key: did you mean ENERGYWS_KAFKA__GROUP_ID?",
        ),
        ("ZZZ", "x", f"zzz: unknown key: {TOP_LEVEL}"),
        ("ZZZ", "tcp://10.0.0.1:80", f"zzz: unknown key: {TOP_LEVEL}"),
        ("SERVER__PORT", "tcp://10.0.0.1:80", 'server.port: found "tcp://10.0.0.1:80": use a'),
        ("SERVER", "x", "server: is a section: set its keys, such as ENERGYWS_SERVER__HOST"),
        (
            "STREAMS__GAS",
            "x",
            "streams.gas: is a section: set its keys, such as ENERGYWS_STREAMS__GAS__TOPIC",
        ),
        (
            "AUTH__ISSUERS__0__NAME",
            "x",
            f"auth.issuers.0: unknown key: auth.issuers has no keys: set it to {ISSUERS}",
        ),
        (
            "SERVER__PORT__X",
            "1",
            "server.port.x: unknown key: server.port has no keys: "
            "set it to a whole number from 0 to 65535",
        ),
        ("SERVER__PORT", "many", 'server.port: found "many": use a whole number'),
        ("SERVER__PORT", "true", 'server.port: found "true": use a whole number'),
        ("SERVER__PORT", "", 'server.port: found "": use a whole number'),
        ("SERVER__DRAIN_SECONDS", "inf", 'server.drain_seconds: found "inf": use a number'),
        ("KAFKA__TOPIC", "", 'kafka.topic: found "": use a non-empty string'),
        ("SERVER__HOST", "\udcff", "server.host: holds bytes that are not UTF-8"),
        ("KAFKA__OPTIONS__DEBUG", "\udcff", "kafka.options.debug: holds bytes that are not UTF-8"),
        (
            "SERVER__ALLOWED_ORIGINS",
            "https://a.example",
            "server.allowed_origins: found a single value: use a list, each item a string",
        ),
        (
            "SERVER__ALLOWED_ORIGINS",
            "[https://a, 5]",
            "server.allowed_origins[1]: found 5: use a string, in quotes",
        ),
        (
            "SERVER__ALLOWED_ORIGINS",
            "[a",
            "server.allowed_origins: cannot be read: use a list, each item a string, as in [a, b]",
        ),
        ("AUTH__ISSUERS", "x", f"auth.issuers: found a single value: use {ISSUERS}"),
    ],
)
def test_a_bad_variable_is_reported_by_its_name(name: str, text: str, problem: str) -> None:
    problems = problems_of(GOOD, {f"ENERGYWS_{name}": text})

    assert len(problems) == 1
    assert problems[0].startswith(f"environment variable ENERGYWS_{name}: {problem}")


def test_two_variables_for_one_key_are_refused() -> None:
    env = {"ENERGYWS_SERVER__PORT": "1", "energyws_server__port": "1"}

    assert problems_of(GOOD, env) == [
        "environment variable energyws_server__port: "
        "sets server.port, as ENERGYWS_SERVER__PORT does: remove one"
    ]


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("server", "number 1 has no =: write section.key=value, as in server.port=9000"),
        ("server.prot=1", "server.prot: unknown key: did you mean server.port?"),
        ("=", f": unknown key: {TOP_LEVEL}"),
        (
            "kafka.options=1",
            "kafka.options: is a section: set its keys, such as kafka.options.name",
        ),
        (
            "kafka.options.group.id=x",
            "kafka.options.group.id: energyws sets this option itself: use kafka.group_id",
        ),
        (
            "server.port=-1",
            'server.port: found "-1": use a whole number from 0 to 65535',
        ),
    ],
)
def test_a_bad_flag_is_reported(flag: str, problem: str) -> None:
    assert problems_of(GOOD, {}, [flag]) == [f"--set: {problem}"]


def test_a_section_that_is_a_value_in_the_file_is_reported_once() -> None:
    problems = problems_of(GOOD + "log: loud\n", {"ENERGYWS_LOG__LEVEL": "DEBUG"})

    assert problems == [
        "c.yaml:3: log: found a single value: use a mapping with the keys level, format"
    ]
