"""The keys of `Settings`, and the values that their types allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, MinLen

from energyws.control.config.problems import KeyPath
from energyws.settings import Settings

_WORDS: Final[dict[Any, str]] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
}


def alternatives(kind: Any) -> list[Any]:
    """The members of a union without None; of any other type, the type itself."""
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return [member for member in members if member is not NoneType]


def keys(kind: Any) -> dict[str, Any]:
    """The keys of a section and their types; empty for anything but a section."""
    section = alternatives(kind)[0]
    if not (isinstance(section, type) and is_dataclass(section)):
        return {}
    hints = get_type_hints(section, include_extras=True)
    return {each.name: hints[each.name] for each in fields(section)}


def is_mapping(kind: Any) -> bool:
    """Whether the type is a section, or a mapping whose keys the operator chooses."""
    return bool(keys(kind)) or _origin(kind) is dict


def is_list(kind: Any) -> bool:
    """Whether the type is a list."""
    return _origin(kind) is tuple


def at(path: KeyPath) -> Any | None:
    """The type of the value at `path`; None if there is no such key."""
    kind: Any = Settings
    for part in path:
        if _origin(kind) is (dict if isinstance(part, str) else tuple):
            kind = _item(kind)
        elif (kind := keys(kind).get(str(part))) is None:
            return None
    return kind


def words(kind: Any) -> list[str]:
    """The words that the type allows; empty if it allows any text."""
    literals = [each for each in alternatives(kind) if get_origin(each) is Literal]
    return [word for each in literals for word in get_args(each)]


def empty(kind: Any) -> Any:
    """The value of a key that is written without one."""
    if NoneType in get_args(kind) or not (is_mapping(kind) or is_list(kind)):
        return None
    return {} if is_mapping(kind) else []


def section(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """The section of this name in a raw tree; empty if it is missing, or not a mapping."""
    found = tree.get(name)
    return found if isinstance(found, dict) else {}


def is_true(value: object) -> bool:
    """Whether pydantic takes a raw value for true, since environment and flags give text."""
    return str(value).lower() in ("true", "t", "yes", "y", "on", "1")


def longest_known(path: KeyPath) -> KeyPath:
    """The longest part of `path` that has a type."""
    lengths = range(len(path), -1, -1)
    return next(path[:length] for length in lengths if at(path[:length]) is not None)


def locate(parts: Sequence[str]) -> KeyPath:
    """The path of a dotted name, known or not.

    Keys that the operator chooses (streams, librdkafka's options) may have dots themselves.
    """
    path: KeyPath = ()
    rest = list(parts)
    while rest:
        kind, taken = at(path), 1
        if _origin(kind) is dict:
            taken = max(1, len(rest) - _depth(_item(kind), rest))
        path += (".".join(rest[:taken]),)
        rest = rest[taken:]
    return path


def _depth(item: Any, rest: Sequence[str]) -> int:
    """How many of the last parts name a key in such an item, not the item itself."""
    if not is_mapping(item):
        return 0
    *name, section, key = ("", "", *rest)
    return 2 if any(name) and key in keys(keys(item).get(section)) else 1


def first_key(path: KeyPath) -> KeyPath:
    """The first key inside a section that takes a value, as an example."""
    while is_mapping(kind := at(path)):
        path += (next(iter(keys(kind)), "name"),)
    return path


def known_keys(kind: Any = Settings, path: KeyPath = ()) -> list[KeyPath]:
    """Every key, but for those that the operator chooses and what is inside them."""
    found: list[KeyPath] = []
    for name, inner in keys(kind).items():
        found += [(*path, name), *known_keys(inner, (*path, name))]
    return found


def suggest(path: KeyPath) -> list[KeyPath]:
    """The keys that an unknown one was probably meant to be."""
    *section, key = path
    known = known_keys()
    # SERVER_PORT with one underscore instead of two is the likeliest slip in an environment.
    if same := [each for each in known if "_".join(map(str, each)) == "_".join(map(str, path))]:
        return same
    if elsewhere := [each for each in known if each[-1] == key]:
        return elsewhere
    siblings = keys(at(tuple(section)))
    return [(*section, close) for close in get_close_matches(str(key), siblings, n=1)]


def allowed(kind: Any) -> str:
    """The values that the type allows, in plain words."""
    return _either([_allowed(member) for member in alternatives(kind)])


def _allowed(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _bounded(_allowed(arguments[0]), arguments[1:])
    if origin is Literal:
        return _either(arguments)
    if origin is tuple:
        return f"a list, each item {allowed(arguments[0])}"
    names = ", ".join(keys(kind))
    return f"a mapping with the keys {names}" if names else _WORDS[origin or kind]


def _bounded(words: str, constraints: Sequence[object]) -> str:
    match constraints:
        case (MinLen(),):
            return "a non-empty string"
        case (Ge(ge=least), Le(le=most)):
            return f"{words} from {least} to {most}"
        case (Ge(ge=least),):
            return f"{words} of at least {least}"
        case (Gt(gt=bound),):
            return f"{words} above {bound}"
    raise AssertionError(constraints)


def _either(choices: Sequence[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


def _origin(kind: Any) -> Any:
    return get_origin(alternatives(kind)[0]) if kind is not None else None


def _item(kind: Any) -> Any:
    """The type of the values of a mapping, or of the items of a list."""
    arguments = get_args(alternatives(kind)[0])
    return arguments[1] if _origin(kind) is dict else arguments[0]
