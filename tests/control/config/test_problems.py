from __future__ import annotations

import pytest

from energyws.control.config.problems import KeyPath, Location, Problems, dotted, is_secret, shown


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("server",), "server"),
        (("server", "tls", "cert"), "server.tls.cert"),
        (("auth", "issuers", 0, "issuer"), "auth.issuers[0].issuer"),
        (("kafka", "options", "sasl.password"), "kafka.options.sasl.password"),
    ],
)
def test_a_path_is_written_with_dots(path: KeyPath, text: str) -> None:
    assert dotted(path) == text


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        (("auth", "jwt_secret"), True),
        (("auth", "jwt_secret_previous"), True),
        (("auth", "jwt_secret_previous_file"), False),
        (("auth", "jwt_secret", "x"), True),
        (("auth", "issuer"), False),
        (("auth",), False),
        (("server", "tls", "key"), False),
        (("kafka", "options"), False),
        *[
            (("kafka", "options", name), True)
            for name in (
                "sasl.password",
                "SASL.Password",
                "ssl.key.pem",
                "ssl.keystore.password",
                "sasl.oauthbearer.client.secret",
                "sasl.oauthbearer.config",
                "sasl.oauthbearer.assertion.private.key.passphrase",
                "some.token",
            )
        ],
        *[
            (("kafka", "options", name), False)
            for name in ("sasl.username", "security.protocol", "ssl.ca.location", "debug")
        ],
    ],
)
def test_secrets_are_recognised_by_their_keys(path: KeyPath, secret: bool) -> None:
    assert is_secret(path) is secret


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain ö", "plain ö"),
        ("a\nb\x00\u202e\udcff", "a\\nb\\x00\\u202e\\udcff"),
        ("https://me:pass@h/ //x@y", "https://***@h/ //***@y"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 60 + "…"),
    ],
)
def test_shown_text_fits_on_a_line(text: str, line: str) -> None:
    assert shown(text) == line


def test_problems_are_sorted_by_location_and_listed_once() -> None:
    problems = Problems("c.yaml")
    problems.put(("log",), Location((0, 5), "c.yaml:5"))
    problems.put(("kafka",), Location((0, 2), "c.yaml:2"))

    problems.add_text("loose", Location((1, 0), "--set"))
    problems.add(("log", "level"), "bad")
    problems.add(("log", "level"), "bad")
    problems.add(("kafka",), "bad")
    problems.add(("bus",), "bad")

    assert problems.lines() == [
        "c.yaml: bus: bad",
        "c.yaml:2: kafka: bad",
        "c.yaml:5: log.level: bad",
        "--set: loose",
    ]


def test_a_wrong_section_explains_its_missing_keys() -> None:
    problems = Problems("c.yaml")
    problems.add(("kafka",), "bad")
    problems.add_meant(("auth", "issuer"))

    assert problems.wrong(("kafka", "brokers"))
    assert not problems.wrong(("auth", "issuer"))
    assert problems.explain_absence(("kafka", "brokers"))
    assert problems.explain_absence(("auth", "issuer"))
    assert not problems.explain_absence(("auth", "jwks_url"))


def test_a_list_from_a_flag_replaces_the_locations_of_its_items() -> None:
    problems = Problems("c.yaml")
    problems.put(("server", "allowed_origins"), Location((0, 2), "c.yaml:2"))
    problems.put(("server", "allowed_origins", 0), Location((0, 3), "c.yaml:3", "a"))
    flag = Location((2, 0), "--set")

    problems.put(("server", "allowed_origins"), flag)

    assert problems.location(("server", "allowed_origins", 0)) == flag


@pytest.mark.parametrize(
    ("path", "value", "scalar", "found"),
    [
        (("auth", "jwt_secret"), "hunter2", True, "***"),
        (("auth", "jwt_secret"), {"hunter2": 1}, True, "a mapping"),
        (("auth",), "hunter2", False, "a single value"),
        (("auth",), ["hunter2"], False, "a list"),
        (("server", "port"), "9000", True, "$(PORT)"),
        (("server", "host"), None, True, ""),
        (("server", "allowed_origins", 0), 5, True, "5"),
    ],
)
def test_a_value_is_shown_as_it_was_typed(
    path: KeyPath, value: object, scalar: bool, found: str
) -> None:
    problems = Problems("c.yaml")
    problems.put(("server", "port"), Location((0, 1), "c.yaml:1", "$(PORT)"))
    problems.put(("server", "host"), Location((0, 2), "c.yaml:2", ""))

    assert problems.found(path, value, scalar=scalar) == found


def test_problems_of_other_sections_can_be_forgotten() -> None:
    problems = Problems("c.yaml")
    problems.add(("admin", "port"), "bad")
    problems.add(("kafka", "brokers"), "bad")
    problems.add_text("admin.port: duplicate key", problems.line(3))

    problems.keep("admin")

    assert problems.lines() == ["c.yaml: admin.port: bad"]
