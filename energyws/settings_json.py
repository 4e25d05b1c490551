"""Settings as JSON, between the supervisor and its children."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from energyws.settings import Settings


def dumps(settings: Settings) -> bytes:
    """The settings as JSON, secrets included: for an inherited descriptor, never for a log."""
    return json.dumps(asdict(settings)).encode()


def loads(data: bytes) -> Settings:
    """The inverse of `dumps`, without validation: only the supervisor writes it."""
    settings = _build(Settings, json.loads(data))
    assert isinstance(settings, Settings)
    return settings


def _build(kind: Any, value: Any) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{f.name: _build(hints[f.name], value[f.name]) for f in fields(kind)})
    if isinstance(value, list):
        item = get_args(kind)[0]
        return tuple(_build(item, each) for each in value)
    if isinstance(value, dict):
        if get_origin(kind) is dict:
            return {key: _build(get_args(kind)[1], each) for key, each in value.items()}
        # `Tls | None`: a union with a dataclass is always an optional one.
        return _build(get_args(kind)[0], value)
    return value
