from __future__ import annotations

import re

import pytest

from energyws.control.config import load, rules
from energyws.settings import Issuer
from tests.control.configs import AUTH, GOOD, KAFKA, SECRET, problems_of

JWKS = "https://i.example/jwks.json"
NO_AUTH = "auth: no authentication configured: set jwt_secret, or jwks_url and issuer, or issuers"
NO_URL = "use an http or https URL without a user name"


@pytest.mark.parametrize(
    ("auth", "problems"),
    [
        ("", [f"c.yaml: {NO_AUTH}"]),
        ("auth:", [f"c.yaml:2: {NO_AUTH}"]),
        ("auth: {issuers: []}", [f"c.yaml:2: {NO_AUTH}"]),
        ("auth: {audience: a}", [f"c.yaml:2: {NO_AUTH}"]),
        (
            f"auth: {{jwks_url: '{JWKS}'}}",
            ["c.yaml:2: auth.jwks_url: needs auth.issuer too: the issuer of these keys"],
        ),
        (
            "auth: {issuer: i}",
            ["c.yaml:2: auth.issuer: needs auth.jwks_url too: the URL of the issuer's keys"],
        ),
        (
            f"auth: {{jwt_secret: {SECRET}, issuer: i}}",
            ["c.yaml:2: auth.issuer: needs auth.jwks_url too: the URL of the issuer's keys"],
        ),
        *[
            (
                f"auth: {{issuer: i, jwks_url: '{url}'}}",
                [f'c.yaml:2: auth.jwks_url: found "{shown}": {NO_URL}'],
            )
            for url, shown in [
                ("ftp://i.example/", "ftp://i.example/"),
                ("i.example/jwks.json", "i.example/jwks.json"),
                ("https:///jwks.json", "https:///jwks.json"),
                ("https://[::1/", "https://[::1/"),
                ("https://me:hunter2@i.example/", "https://***@i.example/"),
                ("https://:hunter2@i.example/", "https://***@i.example/"),
                ("file:///etc/passwd", "file:///etc/passwd"),
            ]
        ],
        (
            f"auth:\n  issuers:\n  - {{name: a, issuer: i, jwks_url: '{JWKS}'}}\n"
            f"  - {{name: b, issuer: j, jwks_url: '{JWKS}'}}\n"
            f"  - {{name: c, issuer: i, jwks_url: '{JWKS}'}}\n",
            [
                "c.yaml:6: auth.issuers[2].issuer: same as auth.issuers[0].issuer: "
                "list each issuer once"
            ],
        ),
        (
            "auth:\n  issuer: i\n  jwks_url: https://other.example/\n"
            f"  issuers: [{{name: a, issuer: i, jwks_url: '{JWKS}'}}]\n",
            ["c.yaml:5: auth.issuers[0].issuer: same as auth.issuer: list each issuer once"],
        ),
        (
            'auth: {jwt_secret: "***"}',
            ["c.yaml:2: auth.jwt_secret: *** is a placeholder: write the secret instead"],
        ),
        (
            f'auth: {{jwt_secret: {SECRET}, jwt_secret_previous: "***"}}',
            ["c.yaml:2: auth.jwt_secret_previous: *** is a placeholder: write the secret instead"],
        ),
        (f"auth: {{jwt_secret_previous: {SECRET}}}", [f"c.yaml:2: {NO_AUTH}"]),
        ("auth: {jwt_secret_previous_file: /s}", [f"c.yaml:2: {NO_AUTH}"]),
        (f"auth: {{jwt_secrt: {SECRET}}}", None),
        ("auth: {jwt_secret: 5}", None),
        ('auth: {jwt_secret: "$(UNSET)"}', None),
        ("auth: 5", None),
        ("auth: {issuers: [5]}", None),
    ],
)
def test_authentication_must_be_configured(auth: str, problems: list[str] | None) -> None:
    found = problems_of(KAFKA + auth)

    if problems is None:
        assert len(found) == 1
        assert "no authentication" not in found[0]
    else:
        assert found == problems


@pytest.mark.parametrize(
    "auth",
    [
        AUTH,
        f"auth: {{issuer: i, jwks_url: '{JWKS}'}}",
        f"auth: {{issuers: [{{name: a, issuer: i, jwks_url: '{JWKS}'}}]}}",
        f"auth: {{issuer: i, issuers: [{{name: a, issuer: j, jwks_url: '{JWKS}'}}]}}",
        f"auth: {{issuer: i, jwks_url: '{JWKS}', jwt_secret: {SECRET}}}",
    ],
)
def test_each_way_to_authenticate_is_enough(auth: str) -> None:
    assert problems_of(KAFKA + auth) == []


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("bootstrap.servers", "use kafka.brokers"),
        ("metadata.broker.list", "use kafka.brokers"),
        ("group.id", "use kafka.group_id"),
        ("auto.offset.reset", "use kafka.auto_offset_reset"),
        ("enable.auto.commit", "use kafka.commit_interval_seconds"),
        ("auto.commit.enable", "use kafka.commit_interval_seconds"),
        ("enable.auto.offset.store", "leave it out"),
    ],
)
def test_options_that_energyws_sets_itself_are_refused(name: str, advice: str) -> None:
    text = AUTH + f"kafka:\n  brokers: b\n  topic: t\n  options:\n    {name}: x\n"

    assert problems_of(text) == [
        f"c.yaml:6: kafka.options.{name}: energyws sets this option itself: {advice}"
    ]


def test_a_secret_option_that_is_a_placeholder_is_refused() -> None:
    text = AUTH + 'kafka: {brokers: b, topic: t, options: {sasl.password: "***", debug: "***"}}\n'

    assert problems_of(text) == [
        "c.yaml:2: kafka.options.sasl.password: *** is a placeholder: write the secret instead"
    ]


@pytest.mark.parametrize(
    ("server", "admin", "clash"),
    [
        ("{}", "{port: 8080}", True),
        ("{}", "{port: '8080'}", True),
        ("{port: 8490}", "{}", True),
        ("{port: 0}", "{port: 0}", False),
        ("{port: 1}", "{port: 2}", False),
        ("{host: 10.0.0.1}", "{port: 8080}", False),
        ("{host: 10.0.0.1}", "{port: 8080, host: 0.0.0.0}", True),
        ("{host: 10.0.0.1}", "{port: 8080, host: '::'}", True),
        ("{host: localhost}", "{port: 8080}", True),
        ("{host: localhost}", "{port: 8080, host: '::1'}", True),
        ("{host: '::1'}", "{port: 8080}", False),
        ("{host: 0.0.0.0}", "{port: 8080, host: '::1'}", False),
    ],
)
def test_the_two_ports_must_not_clash(server: str, admin: str, clash: bool) -> None:
    problems = problems_of(GOOD + f"server: {server}\nadmin: {admin}\n")

    assert bool(problems) is clash
    for problem in problems:
        assert re.fullmatch(
            r"c\.yaml:[34]: (server|admin)\.port: "
            r"server\.port and admin\.port are both 8(080|490) on the same host: change one",
            problem,
        )


HTTP = "{issuer: i, jwks_url: 'http://i.example/keys'"


@pytest.mark.parametrize(
    ("auth", "problem"),
    [
        (f"{HTTP}}}", "auth.jwks_url: found "),
        (f"{HTTP}, allow_http_jwks: false}}", "auth.jwks_url: found "),
        (
            "{issuers: [{name: a, issuer: j, jwks_url: 'http://10.0.0.1/'}]}",
            "auth.issuers[0].jwks_url: found ",
        ),
        (
            f"{{issuer: i, jwks_url: '{JWKS}', jwt_secret_beside_issuers: true}}",
            "auth.jwt_secret_beside_issuers: needs auth.jwt_secret",
        ),
        (
            f"{{issuer: i, jwks_url: '{JWKS}', jwt_secret_issuer: i}}",
            "auth.issuer: same as auth.jwt_secret_issuer",
        ),
        (
            f"{{jwt_secret: {SECRET}, required_claims: {{azp: []}}}}",
            "auth.required_claims.azp: has no value",
        ),
        (
            f"{{jwt_secret: {SECRET}, required_claims: {{azp: app}}}}",
            "auth.required_claims.azp: found a single value: use a list",
        ),
    ],
)
def test_settings_of_tokens_that_contradict_each_other(auth: str, problem: str) -> None:
    (found,) = problems_of(f"{KAFKA}auth: {auth}\n")
    assert found.startswith(f"c.yaml:2: {problem}")


def test_problem_of_http_names_the_key_that_allows_it() -> None:
    (problem,) = problems_of(f"{KAFKA}auth: {HTTP}}}\n")
    assert problem.endswith("or set auth.allow_http_jwks: true")
    env = {"ENERGYWS_AUTH__ALLOW_HTTP_JWKS": "true"}
    assert problems_of(f"{KAFKA}auth: {HTTP}}}\n", env) == []


def test_required_claims_may_come_from_the_environment() -> None:
    env = {"ENERGYWS_AUTH__REQUIRED_CLAIMS__AZP": "[app, 7, true]"}
    settings = load.parse(GOOD, "c.yaml", env)
    assert settings.auth.required_claims == {"azp": ("app", 7, True)}


@pytest.mark.parametrize(
    ("admin", "problem"),
    [
        ("{metrics_port: 9464}", None),
        ("{metrics_port: 0, port: 0}", None),
        ("{metrics_port: 8490}", "admin.port and admin.metrics_port are both 8490"),
        ("{metrics_port: 8490, socket: /run/x}", None),
        ("{metrics_port: 8490, metrics_host: 10.0.0.1}", None),
        ("{metrics_port: 8080}", "server.port and admin.metrics_port are both 8080"),
        ("{port: 8080, socket: /run/x}", None),
    ],
)
def test_metrics_port_must_not_clash(admin: str, problem: str | None) -> None:
    found = problems_of(GOOD + f"admin: {admin}\n")
    text = f"c.yaml:3: admin.metrics_port: {problem} on the same host: change one"
    assert found == ([] if problem is None else [text])


@pytest.mark.parametrize("host", ["http://node1.example", "node1.example:8490", "a/b", "*", "a b"])
def test_host_that_is_no_name(host: str) -> None:
    assert problems_of(GOOD + f'admin: {{hosts: ["node1", "{host}"]}}\n') == [
        f'c.yaml:3: admin.hosts[1]: found "{host}": use a name alone, as in node1.example'
    ]


@pytest.mark.parametrize(
    ("token", "starts"),
    [
        ("a" * 16, []),
        ("a" * 15, ["admin.token: shorter than 16 bytes, so it can be guessed"]),
        ("x", ["admin.token: shorter than 16 bytes, so it can be guessed"]),
    ],
)
def test_short_admin_token(token: str, starts: list[str]) -> None:
    found = rules.warnings(load.parse(GOOD + f"admin: {{token: {token}}}\n", "c.yaml", {}))
    assert len(found) == len(starts)
    assert all(line.startswith(start) for line, start in zip(found, starts, strict=True))
    assert "openssl rand" in "".join(found) or not starts


@pytest.mark.parametrize(
    ("auth", "starts"),
    [
        (f"{{jwt_secret: {'x' * 32}}}", []),
        (f"{{jwt_secret: {'x' * 31}}}", ["auth.jwt_secret: shorter than 32 bytes"]),
        (f"{{jwt_secret: {'é' * 16}}}", []),
        (f'{{jwt_secret: "{"x" * 32}\\n"}}', ["auth.jwt_secret: begins or ends with white space"]),
        # Not used, so its value does not matter.
        (f"{{jwt_secret: {SECRET}, issuer: i, jwks_url: '{JWKS}'}}", []),
        (f"{{jwt_secret: short , issuer: i, jwks_url: '{JWKS}'}}", []),
        (
            f"{{jwt_secret: {SECRET}, jwt_secret_previous: {'y' * 31}}}",
            ["auth.jwt_secret_previous: shorter than 32 bytes"],
        ),
        (f"{{jwt_secret: {SECRET}, jwt_secret_previous: ''}}", []),
        (
            f"{{jwt_secret: {SECRET}, jwt_secret_previous: {SECRET}}}",
            ["auth.jwt_secret_previous: the same as auth.jwt_secret"],
        ),
        (
            f"{{jwt_secret_previous: {SECRET}, issuer: i, jwks_url: '{JWKS}'}}",
            ["auth.jwt_secret_previous: not used"],
        ),
        (
            f"{{jwt_secret: {SECRET}, scope_prefix: 'read: '}}",
            ["auth.scope_prefix: begins or ends"],
        ),
        (f"{{jwt_secret: {SECRET}, scope_prefix: 'read:'}}", []),
        (
            "{issuer: i, jwks_url: 'http://i.example/', allow_http_jwks: true}",
            ["auth.issuers: the keys of i come over"],
        ),
        (
            f"{{jwt_secret_issuer: s, issuer: i, jwks_url: '{JWKS}'}}",
            ["auth.jwt_secret_issuer: not used"],
        ),
        (
            f"{{jwt_secret: {SECRET}, jwt_secret_previous: {'y' * 32}, jwt_secret_issuer: s, "
            f"issuer: i, jwks_url: '{JWKS}', jwt_secret_beside_issuers: true}}",
            [],
        ),
        ("{issuer: i, jwks_url: 'http://localhost:1/'}", []),
        ("{issuer: i, jwks_url: 'http://127.8.0.1/'}", []),
        ("{issuer: i, jwks_url: 'http://[::1]:80/'}", []),
        (
            f"{{issuer: i, issuers: [{{name: a, issuer: j, jwks_url: '{JWKS}'}}]}}",
            ["auth.issuer: not used"],
        ),
    ],
)
def test_valid_but_doubtful_settings_are_warned_of(auth: str, starts: list[str]) -> None:
    warnings = rules.warnings(load.parse(f"{KAFKA}auth: {auth}\n", "c.yaml", {}))

    assert len(warnings) == len(starts)
    for warning, start in zip(warnings, starts, strict=True):
        assert warning.startswith(start)
        assert "x" * 31 not in warning
        assert SECRET not in warning


def test_shorthands_are_written_out() -> None:
    text = f"{KAFKA}streams: {{gas: {{topic: g}}}}\nauth: {{issuer: i, jwks_url: '{JWKS}'}}\n"

    settings = load.parse(text, "c.yaml", {})

    assert {name: each.topic for name, each in settings.streams.items()} == {
        "energy": "t",
        "gas": "g",
    }
    assert settings.auth.issuers == (Issuer(name="default", issuer="i", jwks_url=JWKS),)


def test_trusted_proxies_are_addresses_and_networks() -> None:
    listed = "['10.0.0.0/8', '::1', '10.0.0.1/8', proxy.example]"
    text = GOOD + f"server:\n  trusted_proxies: {listed}\n"
    advice = "use an address, or a network such as 10.0.0.0/8"
    assert [problem.partition(": ")[2] for problem in problems_of(text)] == [
        f'server.trusted_proxies[2]: found "10.0.0.1/8": {advice}',
        f"server.trusted_proxies[3]: found proxy.example: {advice}",
    ]


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_proxy_protocol_needs_proxies_that_are_trusted(mode: str) -> None:
    (problem,) = problems_of(GOOD + f"server: {{proxy_protocol: {mode}}}\n")
    assert "server.proxy_protocol: needs server.trusted_proxies too" in problem
    good = GOOD + f"server: {{proxy_protocol: {mode}, trusted_proxies: ['10.0.0.1']}}\n"
    assert load.parse(good, "c.yaml", {}).server.proxy_protocol == mode


@pytest.mark.parametrize(
    ("section", "key", "value", "other"),
    [
        ("server", "forwarded_header", "Forwarded", "trusted_proxies: ['10.0.0.1']"),
        ("admin", "metrics_host", "0.0.0.0", "metrics_port: 9464"),
    ],
)
def test_key_that_needs_another_one_draws_a_warning(
    section: str, key: str, value: str, other: str
) -> None:
    alone = load.parse(GOOD + f"{section}: {{{key}: {value}}}\n", "c.yaml", {})
    (warning,) = rules.warnings(alone)
    assert warning.startswith(f"{section}.{key}: not used without {section}.{other.split(':')[0]}")
    both = load.parse(GOOD + f"{section}: {{{key}: {value}, {other}}}\n", "c.yaml", {})
    assert rules.warnings(both) == []


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
def test_trusting_everybody_draws_a_warning(network: str) -> None:
    settings = load.parse(GOOD + f"server: {{trusted_proxies: ['{network}']}}\n", "c.yaml", {})
    (warning,) = rules.warnings(settings)
    assert warning.startswith("server.trusted_proxies: trusts every address")


REGISTRY = "https://registry.example"
NEEDS_URL = "needs schema_registry.url too: the registry that has its schemas"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (f"schema_registry: {{url: '{REGISTRY}'}}\nstreams: {{s: {{topic: r, format: avro}}}}", []),
        ("streams: {s: {topic: r, format: json_schema}}", []),
        (
            "streams: {s: {topic: r, format: avro}, p: {topic: q, format: protobuf}}",
            [
                f"c.yaml:3: streams.s.format: {NEEDS_URL}",
                f"c.yaml:3: streams.p.format: {NEEDS_URL}",
            ],
        ),
        (
            "streams: {s: {topic: r, format: xml}}",
            [
                "c.yaml:3: streams.s.format: found xml: use json, avro, json_schema or protobuf",
            ],
        ),
        *[
            (
                f"schema_registry: {{url: '{url}'}}",
                [f'c.yaml:3: schema_registry.url: found "{shown}": {NO_URL}'],
            )
            for url, shown in [
                ("registry.example:8081", "registry.example:8081"),
                ("https://me:hunter2@registry.example", "https://***@registry.example"),
            ]
        ],
        *[
            (
                f"schema_registry: {{url: '{REGISTRY}/v7{rest}'}}",
                [
                    "c.yaml:3: schema_registry.url: has a query or fragment, but the API's paths "
                    "follow it: end before"
                ],
            )
            for rest in ("?key=canary", "/#x")
        ],
        *[
            (
                f"schema_registry: {{url: '{REGISTRY}', {key}: x}}",
                [
                    f"c.yaml:3: schema_registry.{key}: needs schema_registry.username too: "
                    "the user whose password it is"
                ],
            )
            for key in ("password", "password_file")
        ],
        (
            f"schema_registry: {{url: '{REGISTRY}', username: me, password: '***'}}",
            ["c.yaml:3: schema_registry.password: *** is a placeholder: write the secret instead"],
        ),
    ],
)
def test_schema_registry_is_where_it_is_needed(text: str, problems: list[str]) -> None:
    assert problems_of(GOOD + text) == problems


def test_password_that_anyone_can_read_is_warned_of() -> None:
    for url, warned in (("http://registry.example", True), ("http://127.0.0.1:8081", False)):
        text = f"schema_registry: {{url: '{url}', username: me, password: x}}"
        found = rules.warnings(load.parse(GOOD + text, "c.yaml", {}))
        assert [each.startswith("schema_registry.url: ") for each in found] == [True] * warned
