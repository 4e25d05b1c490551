"""The JSON Schemas in docs/contract/schemas, as published and as strict as the service is."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

ROOT: Final = Path(__file__).parent.parent.parent
CONTRACT: Final = ROOT / "docs" / "contract"
SCHEMAS: Final = {
    path.stem: json.loads(path.read_text())
    for path in sorted((CONTRACT / "schemas").glob("*.json"))
}


def validator(name: str) -> Draft202012Validator:
    """Of the schema as clients get it: it allows further fields, codes and reasons."""
    return _validator(name, lambda schema: schema)


def strict(name: str) -> Draft202012Validator:
    """Of the same schema, without anything that it does not name."""
    return _validator(name, _closed)


@cache
def _validator(name: str, change: Callable[[Any], Any]) -> Draft202012Validator:
    resources = [Resource.from_contents(change(schema)) for schema in SCHEMAS.values()]
    registry: Registry[Any] = Registry().with_resources(
        (resource.id() or "", resource) for resource in resources
    )
    return Draft202012Validator(change(SCHEMAS[name]), registry=registry)


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if "properties" in schema and "required" in schema:
        closed.setdefault("additionalProperties", False)
    if isinstance(schema.get("anyOf"), list):
        closed["anyOf"] = [each for each in schema["anyOf"] if each != {"type": "string"}]
    return closed
