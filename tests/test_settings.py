from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.settings import Auth, Issuer, Kafka, Settings, Stream, Tls, dumps, loads

SECRET = "canary-of-more-than-thirty-two-bytes"


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Every field of a dataclass filled in; `st.from_type` leaves those with a default alone."""
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
def test_settings_survive_the_way_to_a_child(settings: Settings) -> None:
    assert loads(dumps(settings)) == settings


def test_nested_parts_come_back_as_what_they_were() -> None:
    settings = Settings(
        kafka=Kafka(brokers="b:9092", options={"a": True, "b": 1, "c": 1.5, "d": "1"}),
        streams={"energy": Stream(topic="t")},
        auth=Auth(issuers=(Issuer(name="n", issuer="i", jwks_url="https://i/"),)),
    )

    back = loads(dumps(settings))

    assert back.streams["energy"] == Stream(topic="t")
    assert back.auth.issuers == (Issuer(name="n", issuer="i", jwks_url="https://i/"),)
    assert [type(each) for each in back.kafka.options.values()] == [bool, int, float, str]
    assert back.server.tls is None


def test_tls_comes_back_as_a_pair_of_paths() -> None:
    data = json.loads(dumps(Settings(kafka=Kafka(brokers="b:9092"))))
    data["server"]["tls"] = {"cert": "c", "key": "k"}

    assert loads(json.dumps(data).encode()).server.tls == Tls(cert="c", key="k")


def test_secrets_stay_out_of_the_representation() -> None:
    settings = Settings(
        kafka=Kafka(brokers="b:9092", options={"sasl.password": SECRET}),
        auth=Auth(jwt_secret=SECRET, jwt_secret_previous=SECRET),
    )

    assert SECRET not in repr(settings)
    assert SECRET.encode() in dumps(settings)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings(kafka=Kafka(brokers="b:9092")).kafka.brokers = "other"  # type: ignore[misc]


def test_children_need_no_validation_library() -> None:
    program = "import sys, energyws.settings; print('pydantic' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert run.stdout == "False\n"
