"""Patterns of messages in the table: what a message must have at least.

An object in a pattern names the fields that must be there and match; others may be there as well.
A list has as many items as the pattern. Other values must be equal, except for texts such as

    "<string>"         a value of this kind: any, object, array, string, integer, boolean, time
    "<string ID>"      the same; the value is then known as {ID}
    "{stream}"         the value that is known by this name, also inside a text or as a key
    "<absent>"         no such field
    {"<one of>": [...]} any of these patterns
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

_KIND: Final = re.compile(r"<([a-z]+)(?: ([A-Z_]+))?>")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")
_ONE_OF: Final = "<one of>"
_ABSENT: Final = "<absent>"
_MOST_SHOWN: Final = 200
KINDS: Final[dict[str, Callable[[Any], bool]]] = {
    "any": lambda value: True,
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "time": lambda value: isinstance(value, str) and _TIME.fullmatch(value) is not None,
}


def fill(value: Any, known: dict[str, Any]) -> Any:
    """The value with each {NAME} in its texts replaced."""
    if isinstance(value, dict):
        return {fill(key, known): fill(inner, known) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, known) for inner in value]
    if isinstance(value, str):
        for name, text in known.items():
            value = value.replace(f"{{{name}}}", str(text))
    return value


def mismatch(pattern: Any, value: Any, known: dict[str, Any], path: str = "") -> str | None:
    """Why the value does not match; None if it does, and then `known` has what it names."""
    if isinstance(pattern, dict):
        if _ONE_OF in pattern:
            return _none_of(pattern[_ONE_OF], value, known, path)
        return _in_object(pattern, value, known, path)
    if isinstance(pattern, list):
        if not isinstance(value, list) or len(value) != len(pattern):
            return _differs(path, f"a list of {len(pattern)}", value)
        pairs = enumerate(zip(pattern, value, strict=True))
        found = (mismatch(p, v, known, f"{path}[{i}]") for i, (p, v) in pairs)
        return next((each for each in found if each), None)
    if isinstance(pattern, str) and (match := _KIND.fullmatch(pattern)) and match[1] in KINDS:
        if not KINDS[match[1]](value):
            return _differs(path, match[1], value)
        if match[2]:
            known[match[2]] = value
        return None
    wanted = fill(pattern, known)
    same = type(wanted) is type(value) and wanted == value
    return None if same else _differs(path, shown(wanted), value)


def shown(value: Any) -> str:
    """The value as JSON, for a report: at most 200 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _in_object(pattern: dict[str, Any], value: Any, known: dict[str, Any], path: str) -> str | None:
    if not isinstance(value, dict):
        return _differs(path, "object", value)
    for key, inner in pattern.items():
        name = fill(key, known)
        where = f"{path}.{name}" if path else name
        if inner == _ABSENT:
            if name in value:
                return f"{where}: must not be there"
        elif name not in value:
            return f"{where}: missing in {shown(value)}"
        elif reason := mismatch(inner, value[name], known, where):
            return reason
    return None


def _none_of(patterns: list[Any], value: Any, known: dict[str, Any], path: str) -> str | None:
    reasons = [mismatch(each, value, known, path) for each in patterns]
    return None if None in reasons else " or ".join(filter(None, reasons))


def _differs(path: str, wanted: str, value: Any) -> str:
    return f"{path + ': ' if path else ''}wanted {wanted}, got {shown(value)}"
