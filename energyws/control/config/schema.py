"""What the types of `Settings` say about a key: what it takes, in plain words, and its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, MinLen

from energyws.control.config.problems import KeyPath
from energyws.settings import Settings


def alternatives(kind: Any) -> list[Any]:
    """The members of a union, None left out; the type itself where it is no union."""
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
    """Whether the type is a section, or a mapping with keys of the operator's choice."""
    return bool(keys(kind)) or get_origin(alternatives(kind)[0]) is dict


def is_list(kind: Any) -> bool:
    """Whether the type is a list."""
    return get_origin(alternatives(kind)[0]) is tuple


def at(path: KeyPath) -> Any | None:
    """The type of the value at `path`; None where no such key can be."""
    kind: Any = Settings
    for part in path:
        inner = alternatives(kind)[0]
        if get_origin(inner) is dict and isinstance(part, str):
            kind = get_args(inner)[1]
        elif get_origin(inner) is tuple and isinstance(part, int):
            kind = get_args(inner)[0]
        elif (kind := keys(kind).get(str(part))) is None:
            return None
    return kind


def empty(kind: Any) -> Any:
    """What a key that is written without a value stands for."""
    if kind is None or NoneType in get_args(kind):
        return None
    if is_mapping(kind):
        return {}
    return [] if is_list(kind) else None


def longest_known(path: KeyPath) -> KeyPath:
    """The part of `path` that leads to a type."""
    length = 0
    while length < len(path) and at(path[: length + 1]) is not None:
        length += 1
    return path[:length]


def locate(parts: Sequence[str]) -> KeyPath:
    """The path that the parts of a dotted name stand for, known or not.

    Keys of the operator's choice (streams, librdkafka's options) may hold dots themselves.
    """
    path: KeyPath = ()
    rest = list(parts)
    while rest:
        kind = at(path)
        inner = None if kind is None else alternatives(kind)[0]
        taken = 1
        if get_origin(inner) is dict:
            below = 1 if is_mapping(get_args(inner)[1]) else 0
            taken = max(1, len(rest) - below)
        path += (".".join(rest[:taken]),)
        rest = rest[taken:]
    return path


def first_key(path: KeyPath) -> KeyPath:
    """The first key inside a section that takes a value, as an example of such keys."""
    while is_mapping(kind := at(path)):
        path += (next(iter(keys(kind)), "name"),)
    return path


def known_keys() -> list[KeyPath]:
    """Every key whose whole path is ours, not the operator's, to name."""
    return list(_below((), Settings))


def _below(path: KeyPath, kind: Any) -> Iterator[KeyPath]:
    for name, inner in keys(kind).items():
        yield (*path, name)
        yield from _below((*path, name), inner)


def suggest(path: KeyPath) -> list[KeyPath]:
    """What an unknown key was probably meant to be: one key, several, or none."""
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
    """What a value of this type may be, in plain words."""
    return _either([_allowed(member) for member in alternatives(kind)])


def _either(choices: Sequence[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


def _allowed(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Annotated:
        base, *constraints = get_args(kind)
        return _allowed(base) + _bounds(constraints)
    if origin is Literal:
        return _either(get_args(kind))
    if origin is tuple:
        return f"a list, each item {allowed(get_args(kind)[0])}"
    if names := keys(kind):
        return f"a mapping with the keys {', '.join(names)}"
    return _WORDS[origin or kind]


def _bounds(constraints: Sequence[object]) -> str:
    said = []
    for constraint in constraints:
        match constraint:
            case MinLen():
                return " that is not empty"
            case Ge(ge=bound):
                said.append(f"at least {bound}")
            case Gt(gt=bound):
                said.append(f"above {bound}")
            case Le(le=bound):
                said.append(f"at most {bound}")
    return f" ({', '.join(said)})"


_WORDS: Final[dict[Any, str]] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true/false",
    dict: "a mapping",
}
