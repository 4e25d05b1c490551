from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, MinLen

from energyws.control.config import schema
from energyws.control.config.problems import KeyPath


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (("kafka", "brokers"), "a non-empty string"),
        (("kafka", "topic"), "a non-empty string"),
        (("kafka", "auto_offset_reset"), "latest or earliest"),
        (("kafka", "options"), "a mapping"),
        (("kafka", "options", "x"), "a string, a whole number, a number or true or false"),
        (("server", "port"), "a whole number from 0 to 65535"),
        (("server", "workers"), "a whole number from 1 to 64 or auto"),
        (("server", "tls"), "a mapping with the keys cert, key, session_tickets"),
        (("server", "allowed_origins"), "a list, each item a string"),
        (("server", "drain_seconds"), "a number of at least 0"),
        (("server", "messages_per_second"), "a number above 0"),
        (
            ("auth", "issuers"),
            "a list, each item a mapping with the keys name, issuer, jwks_url",
        ),
        (("log", "level"), "DEBUG, INFO, WARNING or ERROR"),
    ],
)
def test_types_are_described_in_plain_words(path: KeyPath, words: str) -> None:
    assert schema.allowed(schema.at(path)) == words


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (("server", "io_uring"), ["auto", "off"]),
        (("server", "workers"), ["auto"]),
        (("server", "host"), []),
        (("server", "compression"), []),
    ],
)
def test_the_words_that_a_key_allows(path: KeyPath, words: list[str]) -> None:
    assert schema.words(schema.at(path)) == words


def _constraints(kind: Any) -> list[object]:
    found: list[object] = list(kind.__metadata__) if get_origin(kind) is Annotated else []
    for inner in get_args(kind):
        found += _constraints(inner)
    return found


@pytest.mark.parametrize("path", schema.known_keys(), ids=str)
def test_every_key_can_be_described(path: KeyPath) -> None:
    kind = schema.at(path)

    assert schema.allowed(kind)
    assert all(isinstance(each, Ge | Gt | Le | MinLen) for each in _constraints(kind))


@pytest.mark.parametrize(
    "path",
    [("x",), ("server", "x"), ("server", "port", "x"), ("auth", "issuers", "0"), ("server", 0)],
)
def test_no_type_where_no_key_can_be(path: KeyPath) -> None:
    assert schema.at(path) is None


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("server.port", ("server", "port")),
        ("server.tls.cert", ("server", "tls", "cert")),
        ("kafka.options.sasl.password", ("kafka", "options", "sasl.password")),
        ("kafka.options", ("kafka", "options")),
        ("streams.energy.topic", ("streams", "energy", "topic")),
        ("streams.home.meter.1.topic", ("streams", "home.meter.1", "topic")),
        ("streams.energy", ("streams", "energy")),
        ("streams.a.b.snapshot.enabled", ("streams", "a.b", "snapshot", "enabled")),
        ("streams.snapshot.topic", ("streams", "snapshot", "topic")),
        ("streams.a.snapshot.topic", ("streams", "a.snapshot", "topic")),
        ("streams.snapshot.enabled", ("streams", "snapshot", "enabled")),
        ("no.such.key", ("no", "such", "key")),
        ("server.port.x", ("server", "port", "x")),
    ],
)
def test_a_dotted_name_is_a_path(name: str, path: KeyPath) -> None:
    assert schema.locate(name.split(".")) == path


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        (("server", "prot"), [("server", "port")]),
        (("servr",), [("server",)]),
        (("server_port",), [("server", "port")]),
        (("server_tls_cert",), [("server", "tls", "cert")]),
        (("server", "group_id"), [("kafka", "group_id")]),
        (("port",), [("server", "port"), ("admin", "port")]),
        (("auth", "issuers", 0, "jwk_url"), [("auth", "issuers", 0, "jwks_url")]),
        (("server", "zzz"), []),
        (("streams", "energy", "topics"), [("streams", "energy", "topic")]),
    ],
)
def test_an_unknown_key_has_suggestions(path: KeyPath, meant: list[KeyPath]) -> None:
    assert schema.suggest(path) == meant
