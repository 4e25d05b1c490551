from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.settings import Auth, Issuer, Kafka, Settings, Snapshot, Stream, Tls
from energyws.settings_json import dumps, loads


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values for every field of a dataclass; `st.from_type` skips fields with a default."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind, include_extras=True)
        return st.builds(kind, **{each.name: values_of(hints[each.name]) for each in fields(kind)})
    if get_origin(kind) is dict:
        key, value = get_args(kind)
        return st.dictionaries(values_of(key), values_of(value), max_size=3)
    if get_origin(kind) is tuple:
        return st.lists(values_of(get_args(kind)[0]), max_size=3).map(tuple)
    if kind == Tls | None:
        return st.none() | values_of(Tls)
    if kind == str | int | float | bool:
        return st.text() | st.integers() | st.floats(allow_nan=False) | st.booleans()
    return st.from_type(kind)


@settings(deadline=None)
@given(values_of(Settings))
def test_settings_survive_serialization(settings: Settings) -> None:
    assert loads(dumps(settings)) == settings


def test_nested_values_keep_their_types() -> None:
    settings = Settings(
        kafka=Kafka(brokers="b:9092", options={"a": True, "b": 1, "c": 1.5, "d": "1"}),
        streams={"energy": Stream(topic="t", snapshot=Snapshot(max_keys=3))},
        auth=Auth(issuers=(Issuer(name="n", issuer="i", jwks_url="https://i/"),)),
    )

    back = loads(dumps(settings))

    assert back.streams["energy"] == Stream(topic="t", snapshot=Snapshot(max_keys=3))
    assert back.auth.issuers == (Issuer(name="n", issuer="i", jwks_url="https://i/"),)
    assert [type(each) for each in back.kafka.options.values()] == [bool, int, float, str]
    assert back.server.tls is None


def test_tls_comes_back_as_a_pair_of_paths() -> None:
    data = json.loads(dumps(Settings(kafka=Kafka(brokers="b:9092"))))
    data["server"]["tls"] = {"cert": "c", "key": "k", "session_tickets": False}

    tls = Tls(cert="c", key="k", session_tickets=False)
    assert loads(json.dumps(data).encode()).server.tls == tls
