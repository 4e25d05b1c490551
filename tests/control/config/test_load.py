from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.control.config import load, schema, yaml_tree
from energyws.control.config.problems import KeyPath
from energyws.errors import ConfigError
from energyws.settings import Auth, Kafka, Server, Settings, Stream
from tests.control.configs import AUTH, GOOD, KAFKA, SECRET, problems_of

CANARY = "hunter2-hunter2"
EXAMPLE = Path(__file__).parents[3] / "config" / "config.example.yaml"
# What the predecessor's README tells its users to write.
SEED = """\
kafka:
  brokers: "redpanda-v2.redpanda-v2.svc.cluster.local:9092"
  topic: "homelab-energy-realtime"
  group_id: "energy-ws"
  auto_offset_reset: "latest"

server:
  host: "0.0.0.0"
  port: 8080
  max_connections: 1000

auth:
  jwt_secret: "$(JWT_SECRET)"  # From environment
"""
UNSET = (
    "the environment variable JWT_SECRET is not set: give it a value, as in "
    "`export JWT_SECRET=…`, or write $$(JWT_SECRET) for this very text"
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


def test_what_is_not_given_has_its_default() -> None:
    settings = load.parse(GOOD, "c.yaml", {})

    kafka = Kafka(brokers="b", topic="t")
    streams = {"energy": Stream(topic="t")}
    assert settings == Settings(kafka=kafka, streams=streams, auth=Auth(jwt_secret=SECRET))


@pytest.mark.parametrize(
    "text", ["server:\n", "server: {}\n", "server: {tls: }\n", "server: {allowed_origins: }\n"]
)
def test_an_empty_section_or_list_is_one_without_keys(text: str) -> None:
    assert load.parse(GOOD + text, "c.yaml", {}).server == Server()


@pytest.mark.parametrize(
    ("value", "env"), [("$(PORT)", {"PORT": "9000"}), ('"9000"', {}), ("9000.0", {})]
)
def test_a_number_may_come_as_text(value: str, env: dict[str, str]) -> None:
    text = GOOD + f"server: {{port: {value}}}\n"

    assert load.parse(text, "c.yaml", env).server.port == 9000


@settings(deadline=None)
@given(st.text(min_size=1).filter(lambda text: text != "***"))
def test_what_a_variable_holds_is_never_read_as_yaml(value: str) -> None:
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
        ("server: {port: 99999}", "server.port: found 99999: use a whole number (at least 0, at"),
        ("server: {port: true}", "server.port: found true: use a whole number"),
        ("server: {port: 80.5}", "server.port: found 80.5: use a whole number"),
        ("server: {port: 0x1FFFF}", "server.port: found 0x1FFFF: use a whole number"),
        ("server: {port: }", "server.port: found nothing: use a whole number"),
        ("server: {port: [80]}", "server.port: found a list: use a whole number"),
        ("server: {port: {a: 1}}", "server.port: found a mapping: use a whole number"),
        ("server: {port: $(JWT_SECRET)}", "server.port: found $(JWT_SECRET): use a whole number"),
        ("server: {workers: 65}", "server.workers: found 65: use a whole number (at least 1, at"),
        ("server: {workers: all}", "server.workers: found all: use a whole number (at least 1,"),
        ("server: {workers: yes}", "server.workers: found yes: use a whole number (at least 1,"),
        ("server: {drain_seconds: -1}", "server.drain_seconds: found -1: use a number (at least"),
        ("server: {drain_seconds: .inf}", "server.drain_seconds: found .inf: use a number"),
        ("server: {drain_seconds: .nan}", "server.drain_seconds: found .nan: use a number"),
        ("server: {host: 5}", "server.host: found 5: use a text that is not empty, in quotes"),
        ('server: {host: ""}', 'server.host: found "": use a text that is not empty'),
        ("server: {host: no}", "server.host: found no: use a text that is not empty, in quotes"),
        ('server: {host: "a\\n\\u202e"}', None),
        ("server: {tls: a.pem}", "server.tls: found a single value: use a mapping with the keys"),
        ("server: {tls: {cert: c}}", "server.tls.key: missing: give a text that is not empty"),
        ("server: {allowed_origins: a}", "server.allowed_origins: found a single value: use a "),
        ("server: {allowed_origins: [1]}", "server.allowed_origins[0]: found 1: use a text, in"),
        ("server: 5", "server: found a single value: use a mapping with the keys host, port, "),
        ("server: [5]", "server: found a list: use a mapping with the keys host, port, "),
        ("log: {level: debug}", "log.level: found debug: use DEBUG, INFO, WARNING or ERROR"),
        ("log: {level: 5}", "log.level: found 5: use DEBUG, INFO, WARNING or ERROR"),
        ("log: {level: INFO, level: INFO}", "log.level: stands here twice, on line 3 too: keep"),
        ("log: {level: !x y}", "log.level: ! makes a tag in YAML: put a value that starts with"),
        ("log: {level: &x y}", "cannot be read: & and * make anchors in YAML: put a value that"),
        ("log: {level: ", "cannot be read: while parsing a flow node, expected the node content"),
        ("log:\t{}", "a tab character: YAML is indented with spaces only"),
    ],
)
def test_a_bad_line_is_told_with_its_place(line: str, problem: str | None) -> None:
    problems = problems_of(GOOD + line, {"JWT_SECRET": CANARY})

    if problem is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert re.match(r"c\.yaml:[34]: ", problems[0])
        assert problems[0].split(": ", 1)[1].startswith(problem)


def test_a_long_or_unprintable_value_does_not_spoil_the_line() -> None:
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
def test_a_key_that_was_misspelt_is_not_missing_too(text: str, key: str, meant: str) -> None:
    problems = problems_of(text)

    assert len(problems) == 1
    assert problems[0].endswith(f": {key}: unknown key: did you mean {meant}?")


@pytest.mark.parametrize("text", ["[1]", "5", "x", "- a: b"])
def test_the_top_level_must_be_sections(text: str) -> None:
    assert problems_of(text) == [
        "c.yaml:1: sections such as `kafka:` and `server:` belong at the top level"
    ]


def test_an_empty_file_lacks_what_has_no_default() -> None:
    assert problems_of("") == [
        "c.yaml: kafka.brokers: missing: give a text that is not empty",
        "c.yaml: auth: lets nobody in: set jwt_secret, or jwks_url and issuer, or issuers",
        "c.yaml: kafka.topic: missing: give the topic to read (or streams, if there are more)",
    ]


def test_an_empty_file_is_enough_if_the_rest_comes_from_outside() -> None:
    env = {"ENERGYWS_KAFKA__BROKERS": "b", "ENERGYWS_KAFKA__TOPIC": "t"}

    assert problems_of("", env, ["auth.jwt_secret=s"]) == []


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
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
        "c.yaml:2: kafka.brokers: found nothing: use a text that is not empty",
        "c.yaml:3: kafka.topic: found t, but it is short for streams.energy.topic, "
        "which has u: keep one",
        "c.yaml:4: kafka.group_id: found 5: use a text that is not empty, in quotes",
        "c.yaml:5: kafka.options.group.id: energyws sets this one itself: use kafka.group_id",
        "c.yaml:9: server.port: found 99999: use a whole number (at least 0, at most 65535)",
        "c.yaml:10: server.port: stands here twice, on line 9 too: keep one",
        "c.yaml:11: server.prot: unknown key: did you mean server.port?",
        "c.yaml:13: auth.jwks_url: found ftp://x: use an http or https URL without a user name",
        "c.yaml:13: auth.jwks_url: needs auth.issuer too: whose tokens these keys check",
        "c.yaml:14: auth.leeway_seconds: found 301: use a number (at least 0, at most 300)",
        "c.yaml:15: history: found a list: use a mapping with the keys "
        "max_frames, max_bytes, max_age_seconds, warm, "
        "max_messages, max_record_age_seconds, max_concurrent, bytes_per_second",
        f"c.yaml:16: admin.host: {UNSET.replace('JWT_SECRET', 'NO')}",
        'environment variable ENERGYWS_SERVER__BACKLOG: server.backlog: found "0": '
        "use a whole number (at least 1)",
        "environment variable ENERGYWS_X: x: unknown key: the top level has "
        "kafka, streams, server, auth, history, bus, supervision, admin, log",
        '--set: log.level: found "x": use DEBUG, INFO, WARNING or ERROR',
        "--set: number 2 has no =: write section.key=value, such as server.port=9000",
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


def test_a_file_that_is_no_yaml_does_not_hide_what_is_wrong_outside() -> None:
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
def test_any_values_at_all_are_settings_or_problems(
    tree: dict[str, Any], env: dict[str, str]
) -> None:
    for problem in problems_of(yaml_tree.write(tree), env):
        assert re.match(r"c\.yaml(:[0-9]+)?: [^\n]+$", problem)


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
def test_no_error_ever_shows_a_secret_of_the_file(text: str) -> None:
    assert CANARY not in _whole_error(text, {})


@settings(deadline=None)
@given(
    st.text(alphabet="*&!@`%'\"[]{}|>#:,?-<= \\\n\tx$()"),
    st.text(alphabet="*&!@`%'\"[]{}|>#:,?-<= \\\n\tx$()"),
)
def test_no_error_shows_a_secret_whatever_stands_around_it(before: str, after: str) -> None:
    text = f"log: {{level: 5}}\nauth:\n  jwt_secret: {before}{CANARY}{after}"

    # As a key of its own it is no value any more.
    if re.search(rf"\n.*{CANARY}", before + CANARY):
        return
    assert CANARY not in _whole_error(text, {})


@pytest.mark.parametrize(
    "path", [p for p in schema.known_keys() if not schema.keys(schema.at(p))], ids=str
)
def test_no_error_shows_what_a_variable_holds(path: KeyPath) -> None:
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
def test_no_error_shows_a_secret_from_outside(env: dict[str, str], flags: list[str]) -> None:
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
auth:
  jwt_secret: {CANARY}
  jwt_secret_previous: {CANARY}
  audience: $$(X)
"""


def test_the_description_shows_everything_but_secrets() -> None:
    settings = load.parse(SECRETS, "c.yaml", {})

    text = load.describe(settings)

    assert CANARY not in text + repr(settings) + "".join(load.warnings(settings))
    tree = yaml_tree.read(text).tree
    assert list(tree) == [each.name for each in fields(Settings)]
    assert tree["auth"]["jwt_secret"] == tree["auth"]["jwt_secret_previous"] == "***"
    assert tree["auth"]["audience"] == "$$(X)"
    assert tree["kafka"]["options"]["sasl.username"] == "me"
    assert list(tree["kafka"]["options"].values()).count("***") == 5
    assert tree["server"]["port"] == 8080
    assert tree["streams"] == {"energy": {"topic": "t"}}


def test_the_description_shows_no_password_inside_a_url() -> None:
    flag = f"auth.issuers=[{{name: n, issuer: 'https://me:{CANARY}@h/', jwks_url: 'https://h/'}}]"

    text = load.describe(load.parse(GOOD, "c.yaml", {}, [flag]))

    assert yaml_tree.read(text).tree["auth"]["issuers"][0]["issuer"] == "https://***@h/"


def test_the_description_of_no_secret_says_so() -> None:
    text = KAFKA + "auth: {issuer: i, jwks_url: 'https://i.example/'}\n"

    tree = yaml_tree.read(load.describe(load.parse(text, "c.yaml", {}))).tree

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


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(SEED, encoding="utf-8")

    settings = load.load(path, env={"JWT_SECRET": "s"}, overrides=["server.port=1"])

    assert (settings.auth.jwt_secret, settings.server.port) == ("s", 1)


def test_secrets_come_from_files(tmp_path: Path) -> None:
    now, before = tmp_path / "now", tmp_path / "before"
    now.write_text("new\n", encoding="utf-8")
    before.write_text("old\r\n", encoding="utf-8")
    auth = f"auth: {{jwt_secret_file: {now}, jwt_secret_previous_file: {before}}}\n"
    path = tmp_path / "config.yaml"
    path.write_text(KAFKA + auth, encoding="utf-8")

    settings = load.load(path, env={})
    assert (settings.auth.jwt_secret, settings.auth.jwt_secret_previous) == ("new", "old")
    assert "new" not in load.describe(settings)
    assert "old" not in load.describe(settings)

    # Its end: the file is empty, or the key is gone.
    before.write_text("\n", encoding="utf-8")
    assert load.with_secret_file(settings).auth.jwt_secret_previous is None

    before.write_bytes(b"\xff")
    now.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load.load(path, env={})
    assert caught.value.kind == "secret"
    empty, unreadable = caught.value.problems
    assert empty.startswith("auth.jwt_secret_file: ")
    assert empty.endswith(" is empty")
    assert unreadable.startswith("auth.jwt_secret_previous_file: cannot read ")
    assert unreadable.endswith(": it is not UTF-8")


def test_problems_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(SEED, encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        load.load(path, env={})

    assert caught.value.problems == [f"{path}:13: auth.jwt_secret: {UNSET}"]


def test_a_missing_file_tells_how_to_make_one(tmp_path: Path) -> None:
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


def test_a_folder_or_other_bytes_are_no_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"kafka: \xff" + CANARY.encode())

    with pytest.raises(ConfigError) as folder:
        load.load(tmp_path, env={})
    with pytest.raises(ConfigError) as latin:
        load.load(path, env={})

    assert folder.value.problems == [f"{tmp_path}: cannot be read: Is a directory"]
    assert latin.value.problems == [f"{path}: byte 7 is not UTF-8: save the file as UTF-8"]
    assert CANARY not in "".join(traceback.format_exception(latin.value))


def _uncommented() -> tuple[str, dict[KeyPath, str]]:
    """The example with every key in force, and what its line says of each."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    text = "\n".join(re.sub(r"^( *)#(?=\S)", r"\1", line) for line in lines)
    marks = yaml_tree.read(text).marks
    return text, {path: lines[mark.line - 1] for path, mark in marks.items() if path}


def test_the_example_is_the_predecessors_config_and_comments() -> None:
    active = yaml_tree.read(EXAMPLE.read_text(encoding="utf-8")).tree

    assert {key: value for key, value in active.items() if value} == yaml_tree.read(SEED).tree
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    assert [line for line in SEED.splitlines() if line not in lines] == []


def test_the_example_loads_as_it_is() -> None:
    settings = load.load(EXAMPLE, env={"JWT_SECRET": "test-secret"})

    assert settings == load.parse(SEED, "c.yaml", {"JWT_SECRET": "test-secret"})


def test_the_example_with_every_key_in_force_loads() -> None:
    text, _ = _uncommented()

    secrets = ("JWT_SECRET", "JWT_SECRET_PREVIOUS", "SASL_PASSWORD", "ADMIN_TOKEN")
    assert problems_of(text, dict.fromkeys(secrets, "s")) == []


def _defaults() -> dict[KeyPath, Any]:
    settings = Settings(kafka=Kafka(brokers="b"))
    return {
        (section.name, key.name): getattr(getattr(settings, section.name), key.name)
        for section in fields(Settings)
        if section.name != "streams"
        for key in fields(getattr(settings, section.name))
    }


@pytest.mark.parametrize(("path", "default"), [(("streams",), {}), *_defaults().items()], ids=str)
def test_the_example_has_every_key_with_its_default(path: KeyPath, default: Any) -> None:
    text, lines = _uncommented()
    value: Any = yaml_tree.read(text).tree
    for part in path:
        value = value[part]

    given_by_seed = yaml_tree.read(SEED).tree.get(path[0], {})
    if path[-1] in given_by_seed:
        return
    line = lines[path]
    assert line.lstrip().startswith(f"#{path[-1]}: ")
    assert re.search(r"  # \S", line)
    if default in (None, (), {}):
        assert "  # not set: " in line
    else:
        assert value == default
        assert "not set" not in line
