"""The configuration file as a JSON Schema (2020-12), with which editors complete and check it.

It has keys, types and bounds. What one key requires of another, and the values of variables, only
`energyws check-config` can judge: it takes `$(NAME)` wherever a single value belongs, and no
section as required, since environment and flags may have what the file has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, MinLen

from energyws.control.config import descriptions, schema
from energyws.control.config.problems import KeyPath, is_secret
from energyws.settings import Settings

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE: Final[dict[str, Any]] = {"type": "string", "pattern": r"\$\("}
_TYPES: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}


def json_schema() -> dict[str, Any]:
    """The whole schema."""
    title = "Configuration of energyws"
    return {"$schema": _DIALECT, "title": title, **_value(Settings, ())}


def _value(kind: Any, path: KeyPath) -> dict[str, Any]:
    if schema.keys(kind):
        return _section(kind, path)
    if schema.is_mapping(kind):
        item = _value(get_args(schema.alternatives(kind)[0])[1], (*path, "name"))
        return {"type": ["object", "null"], "additionalProperties": item}
    if schema.is_list(kind):
        item = _value(get_args(schema.alternatives(kind)[0])[0], (*path, 0))
        return {"type": ["array", "null"], "items": item}
    choices = [_scalar(each) for each in schema.alternatives(kind)]
    if all(each.get("type") != "string" for each in choices):
        choices.append(_VARIABLE)
    if NoneType in get_args(kind):
        choices.append({"type": "null"})
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _section(kind: Any, path: KeyPath) -> dict[str, Any]:
    hints = schema.keys(kind)
    known = fields(schema.alternatives(kind)[0])
    properties = {each.name: _property(each, hints[each.name], path) for each in known}
    found = {"type": ["object", "null"], "properties": properties, "additionalProperties": False}
    # Of the sections at the top, environment and flags may have the rest.
    if len(path) > 1 and (required := [each.name for each in known if not _has_default(each)]):
        found["required"] = required
    return found


def _property(field: Field[Any], kind: Any, path: KeyPath) -> dict[str, Any]:
    path = (*path, field.name)
    text = descriptions.of_key(path)
    if not text and schema.keys(kind):
        text = descriptions.of_section(kind)
    found: dict[str, Any] = {"description": text} if text else {}
    found |= _value(kind, path)
    if field.default not in (MISSING, None, ()) and not is_secret(path):
        found["default"] = field.default
    return found


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _scalar(kind: Any) -> dict[str, Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": [*arguments]}
    if origin is Annotated:
        return {**_scalar(arguments[0]), **_bounds(arguments[1:])}
    return {"type": _TYPES[kind]}


def _bounds(constraints: Sequence[object]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in constraints:
        match each:
            case MinLen(min_length=least):
                found["minLength"] = least
            case Ge(ge=least):
                found["minimum"] = least
            case Gt(gt=bound):
                found["exclusiveMinimum"] = bound
            case Le(le=most):
                found["maximum"] = most
            case _:
                raise AssertionError(each)
    return found
