from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.control.config import load, schema, yaml_tree
from energyws.errors import ConfigError
from energyws.settings import Auth, Kafka, Server, Settings, Stream
from tests.control.configs import AUTH, CANARY, GOOD, KAFKA, SECRET, SEED, problems_of

UNSET = (
    "the environment variable JWT_SECRET is not set: give it a value, as in "
    "`export JWT_SECRET=…`, or write $$(JWT_SECRET) for the text itself"
)


def test_a_config_of_the_predecessor_loads_unchanged() -> None:
    settings = load.parse(SEED, "c.yaml", {"JWT_SECRET": "test-secret"})

    topic = "homelab-energy-realtime"
    brokers = "redpanda-v2.redpanda-v2.svc.cluster.local:9092"
    assert settings == Settings(
        kafka=Kafka(brokers=brokers, topic=topic),
        streams={"energy": Stream(topic=topic)},
        server=Server(max_connections=1000),
        auth=Auth(jwt_secret="test-secret"),
    )
    assert settings.auth.jwt_secret == "test-secret"


@pytest.mark.parametrize("env", [{}, {"JWT_SECRET": ""}])
def test_a_secret_is_never_the_name_of_its_variable(env: dict[str, str]) -> None:
    state = "empty" if env else "not set"

    assert problems_of(SEED, env) == [
        f"c.yaml:13: auth.jwt_secret: {UNSET.replace('not set', state)}"
    ]


def test_every_other_key_has_its_default() -> None:
    settings = load.parse(GOOD, "c.yaml", {})

    kafka = Kafka(brokers="b", topic="t")
    streams = {"energy": Stream(topic="t")}
    assert settings == Settings(kafka=kafka, streams=streams, auth=Auth(jwt_secret=SECRET))


@pytest.mark.parametrize(
    "text", ["server:\n", "server: {}\n", "server: {tls: }\n", "server: {allowed_origins: }\n"]
)
def test_an_empty_section_or_list_has_its_defaults(text: str) -> None:
    assert load.parse(GOOD + text, "c.yaml", {}).server == Server()


@pytest.mark.parametrize(
    ("value", "env"), [("$(PORT)", {"PORT": "9000"}), ('"9000"', {}), ("9000.0", {})]
)
def test_a_number_may_be_a_string(value: str, env: dict[str, str]) -> None:
    text = GOOD + f"server: {{port: {value}}}\n"

    assert load.parse(text, "c.yaml", env).server.port == 9000


@settings(deadline=None)
@given(st.text(min_size=1).filter(lambda text: text != "***"))
def test_the_value_of_a_variable_is_never_read_as_yaml(value: str) -> None:
    text = KAFKA + 'auth: {jwt_secret: "$(X)", audience: "a-$(X)-$$(X)"}\n'

    auth = load.parse(text, "c.yaml", {"X": value}).auth

    assert (auth.jwt_secret, auth.audience) == (value, f"a-{value}-$(X)")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("server: {prot: 1}", "server.prot: unknown key: did you mean server.port?"),
        ("servr: {port: 1}", "servr: unknown key: did you mean server?"),
        ("server: {brokers: b}", "server.brokers: unknown key: did you mean kafka.brokers?"),
        ("log: {levl: INFO}", "log.levl: unknown key: did you mean log.level?"),
        ("brokers: b", "brokers: unknown key: did you mean kafka.brokers?"),
        ("server: {tls: {crt: a, key: b, cert: c}}", "server.tls.crt: unknown key: did you mean"),
        ("log: {zzz: 1}", "log.zzz: unknown key: log has level, format"),
        ("8080: x", "8080: unknown key: the top level has kafka, "),
        ("server: {port: 99999}", "server.port: found 99999: use a whole number from 0 to 6"),
        ("server: {port: true}", "server.port: found true: use a whole number"),
        ("server: {port: 80.5}", "server.port: found 80.5: use a whole number"),
        ("server: {port: 0x1FFFF}", "server.port: found 0x1FFFF: use a whole number"),
        ("server: {port: }", "server.port: must be a whole number"),
        ("server: {port: [80]}", "server.port: found a list: use a whole number"),
        ("server: {port: {a: 1}}", "server.port: found a mapping: use a whole number"),
        ("server: {port: $(JWT_SECRET)}", "server.port: found $(JWT_SECRET): use a whole number"),
        ("server: {workers: 65}", "server.workers: found 65: use a whole number from 1 to 64"),
        ("server: {workers: all}", "server.workers: found all: use a whole number from 1 to"),
        ("server: {workers: yes}", "server.workers: found yes: use a whole number from 1 to"),
        ("server: {drain_seconds: -1}", "server.drain_seconds: found -1: use a number of at least"),
        ("server: {drain_seconds: .inf}", "server.drain_seconds: found .inf: use a number"),
        ("server: {drain_seconds: .nan}", "server.drain_seconds: found .nan: use a number"),
        ("server: {host: 5}", "server.host: found 5: use a non-empty string, in quotes"),
        ('server: {host: ""}', 'server.host: found "": use a non-empty string'),
        ("server: {host: no}", "server.host: found no: use a non-empty string, in quotes"),
        ('server: {host: "a\\n\\u202e"}', None),
        ("server: {tls: a.pem}", "server.tls: found a single value: use a mapping with the keys"),
        ("server: {tls: {cert: c}}", "server.tls.key: missing: set it to a non-empty string"),
        ("server: {allowed_origins: a}", "server.allowed_origins: found a single value: use a "),
        ("server: {allowed_origins: [1]}", "server.allowed_origins[0]: found 1: use a string, in"),
        ("server: 5", "server: found a single value: use a mapping with the keys host, port, "),
        ("server: [5]", "server: found a list: use a mapping with the keys host, port, "),
        ("log: {level: debug}", "log.level: found debug: use DEBUG, INFO, WARNING or ERROR"),
        ("log: {level: 5}", "log.level: found 5: use DEBUG, INFO, WARNING or ERROR"),
        ("log: {level: INFO, level: INFO}", "log.level: duplicate key (first on line 3)"),
        ("log: {level: !x y}", "log.level: ! makes a tag in YAML: put a value that starts with"),
        ("log: {level: &x y}", "cannot be read: & and * make anchors in YAML: put a value that"),
        ("log: {level: ", "cannot be read: while parsing a flow node, expected the node content"),
        ("log:\t{}", "a tab character: YAML is indented with spaces only"),
    ],
)
def test_a_bad_line_is_reported_with_its_location(line: str, problem: str | None) -> None:
    problems = problems_of(GOOD + line, {"JWT_SECRET": CANARY})

    if problem is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert re.match(r"c\.yaml:[34]: ", problems[0])
        assert problems[0].split(": ", 1)[1].startswith(problem)


def test_a_long_or_unprintable_value_is_shortened_or_escaped() -> None:
    text = GOOD + f'log: {{level: "{"x" * 100}", format: "a\\n\\x1b[31m"}}\n'

    assert problems_of(text) == [
        f'c.yaml:3: log.level: found "{"x" * 59}…: use DEBUG, INFO, WARNING or ERROR',
        'c.yaml:3: log.format: found "a\\n\\x1b[31m": use text or json',
    ]


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        (AUTH + "kafka: {broker: b, topic: t}", "kafka.broker", "kafka.brokers"),
        (AUTH + "kafka: {topic: t}\nbrokers: b", "brokers", "kafka.brokers"),
        (AUTH + "kafak: {brokers: b, topic: t}", "kafak", "kafka"),
        (KAFKA + "auht: {jwt_secret: s}", "auht", "auth"),
        (GOOD + "server: {tls: {cert: c, kye: k}}", "server.tls.kye", "server.tls.key"),
    ],
)
def test_a_misspelt_key_is_not_reported_as_missing_too(text: str, key: str, meant: str) -> None:
    problems = problems_of(text)

    assert len(problems) == 1
    assert problems[0].endswith(f": {key}: unknown key: did you mean {meant}?")


@pytest.mark.parametrize("text", ["[1]", "5", "x", "- a: b"])
def test_the_top_level_must_be_sections(text: str) -> None:
    assert problems_of(text) == [
        "c.yaml:1: sections such as `kafka:` and `server:` belong at the top level"
    ]


def test_an_empty_file_lacks_the_required_keys() -> None:
    assert problems_of("") == [
        "c.yaml: kafka.brokers: missing: set it to a non-empty string",
        "c.yaml: auth: no authentication configured: "
        "set jwt_secret, or jwks_url and issuer, or issuers",
        "c.yaml: kafka.topic: missing: set it to the topic to read, or set streams",
    ]


def test_an_empty_file_is_enough_with_variables_and_flags() -> None:
    env = {"ENERGYWS_KAFKA__BROKERS": "b", "ENERGYWS_KAFKA__TOPIC": "t"}

    assert problems_of("", env, ["auth.jwt_secret=s"]) == []


def test_all_problems_are_listed_together_in_the_order_of_the_file() -> None:
    text = """\
kafka:
  brokers:
  topic: t
  group_id: 5
  options: {group.id: g}
streams:
  energy: {topic: u}
server:
  port: 99999
  port: 1
  prot: 1
auth:
  jwks_url: ftp://x
  leeway_seconds: 301
history: []
admin: {host: $(NO)}
"""
    env = {"ENERGYWS_SERVER__BACKLOG": "0", "ENERGYWS_X": "1"}

    assert problems_of(text, env, ["log.level=x", "y"]) == [
        "c.yaml:2: kafka.brokers: must be a non-empty string",
        "c.yaml:3: kafka.topic: found t, but it is short for streams.energy.topic, "
        "which has u: remove one",
        "c.yaml:4: kafka.group_id: found 5: use a non-empty string, in quotes",
        "c.yaml:5: kafka.options.group.id: energyws sets this option itself: use kafka.group_id",
        "c.yaml:9: server.port: found 99999: use a whole number from 0 to 65535",
        "c.yaml:10: server.port: duplicate key (first on line 9)",
        "c.yaml:11: server.prot: unknown key: did you mean server.port?",
        "c.yaml:13: auth.jwks_url: found ftp://x: use an http or https URL without a user name",
        "c.yaml:13: auth.jwks_url: needs auth.issuer too: the issuer of these keys",
        "c.yaml:14: auth.leeway_seconds: found 301: use a number from 0 to 300",
        "c.yaml:15: history: found a list: use a mapping with the keys "
        "max_frames, max_bytes, max_age_seconds, warm, "
        "max_messages, max_record_age_seconds, max_scan_records, max_concurrent, bytes_per_second",
        f"c.yaml:16: admin.host: {UNSET.replace('JWT_SECRET', 'NO')}",
        'environment variable ENERGYWS_SERVER__BACKLOG: server.backlog: found "0": '
        "use a whole number of at least 1",
        "environment variable ENERGYWS_X: x: unknown key: the top level has "
        "kafka, streams, schema_registry, server, limits, auth, history, bus, supervision, "
        "admin, log",
        '--set: log.level: found "x": use DEBUG, INFO, WARNING or ERROR',
        "--set: number 2 has no =: write section.key=value, as in server.port=9000",
    ]


def test_a_variable_that_is_not_set_is_the_only_problem_of_its_key() -> None:
    issuer = '{name: n, issuer: "$(NO)", jwks_url: "$(NO)"}'
    text = f"""\
kafka: {{brokers: "$(NO)", topic: "$(NO)"}}
streams: {{energy: {{topic: t}}}}
server: {{port: "$(NO)"}}
auth: {{issuers: [{issuer}, {issuer}]}}
"""

    problems = problems_of(text)

    assert [problem.split(": ")[1] for problem in problems] == [
        "kafka.brokers",
        "kafka.topic",
        "server.port",
        "auth.issuers[0].issuer",
        "auth.issuers[0].jwks_url",
        "auth.issuers[1].issuer",
        "auth.issuers[1].jwks_url",
    ]
    assert all("the environment variable NO is not set" in problem for problem in problems)


def test_a_file_that_is_not_yaml_does_not_hide_problems_of_variables() -> None:
    assert problems_of("a: b: c", {"ENERGYWS_SERVER__PROT": "1"}) == [
        "c.yaml:1: cannot be read: mapping values are not allowed here",
        "environment variable ENERGYWS_SERVER__PROT: server.prot: unknown key: "
        "did you mean ENERGYWS_SERVER__PORT?",
    ]


def _anything() -> st.SearchStrategy[Any]:
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text("$(A)é:*/ @1")
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["topic", "cert", "issuer", "jwks_url", "x.y", ""]), inner
            )
        ),
        max_leaves=5,
    )


def _any_tree() -> st.SearchStrategy[dict[str, Any]]:
    sections = {
        name: _anything()
        | st.dictionaries(st.sampled_from([*schema.keys(kind), "x"]), _anything(), max_size=5)
        for name, kind in schema.keys(Settings).items()
    }
    return st.fixed_dictionaries({}, optional=sections)


@settings(deadline=None)
@given(_any_tree(), st.sampled_from([{}, {"A": "a"}]))
def test_any_values_give_settings_or_problems(tree: dict[str, Any], env: dict[str, str]) -> None:
    for problem in problems_of(yaml_tree.write(tree), env):
        assert re.match(r"c\.yaml(:[0-9]+)?: [^\n]+$", problem)


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(SEED, encoding="utf-8")

    settings = load.load(path, env={"JWT_SECRET": SECRET}, overrides=["server.port=1"])

    assert (settings.auth.jwt_secret, settings.server.port) == (SECRET, 1)


def test_problems_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(SEED, encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        load.load(path, env={})

    assert caught.value.problems == [f"{path}:13: auth.jwt_secret: {UNSET}"]


def test_a_missing_file_is_reported_with_the_command_that_makes_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"

    with pytest.raises(ConfigError) as caught:
        load.load(path, env={})

    assert caught.value.problems == [
        f"{path}: no such file: make one with `energyws example-config > {path}` and edit it, "
        "or set CONFIG_PATH to the one to use"
    ]
    path = tmp_path / "my files" / "config.yaml"
    with pytest.raises(ConfigError) as caught:
        load.load(path, env={})
    assert f"`mkdir -p '{path.parent}' && energyws example-config > '{path}'`" in str(caught.value)


def test_a_folder_or_a_file_in_latin_1_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"kafka: \xff" + CANARY.encode())

    with pytest.raises(ConfigError) as folder:
        load.load(tmp_path, env={})
    with pytest.raises(ConfigError) as latin:
        load.load(path, env={})

    assert folder.value.problems == [f"{tmp_path}: cannot be read: Is a directory"]
    assert latin.value.problems == [f"{path}: byte 7 is not UTF-8: save the file as UTF-8"]
    assert CANARY not in "".join(traceback.format_exception(latin.value))
