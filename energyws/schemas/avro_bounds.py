"""What a schema of Avro may cost: a hostile one must neither recurse nor fill the process to death.

fastavro reads nested values by recursion in C, without a limit: a few thousand levels end the
process. And Avro has types that take no bytes, so a record of 20 bytes may have 2^60 items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from energyws.schemas.values import BadSchema

_MAX_LEVELS: Final = 64
_MAX_NODES: Final = 100_000
# How deep types may be nested by their names.
_MAX_DEPTH: Final = 200
_MAX_TEXT: Final = 1 << 20
# The JSON of what takes the fewest bytes: a time of one byte may have 30 characters, in quotes.
_LEAST_WIDTH: Final = 33
# The logical type of decimals, as fastavro gets it.
DECIMAL: Final = "energyws.decimal"
# The JSON of a decimal besides its fraction: quotes, a sign, a zero, the point.
_DECIMAL_TEXT: Final = 5
PRIMITIVE: Final = frozenset({"null", "boolean", "int", "long", "float", "double"})


class Bounds(NamedTuple):
    """recursive: whether a type contains itself. width: at most so many characters of JSON come
    from one byte, apart from the names that every record has once."""

    recursive: bool
    width: int


def check_nesting(schema: object) -> None:
    """Raises BadSchema for a schema whose JSON is nested too deeply, or too large; iterative."""
    levels, nodes = 0, 0
    level = [schema]
    while level:
        levels += 1
        nodes += len(level)
        if levels > _MAX_LEVELS or nodes > _MAX_NODES:
            raise BadSchema("the schema is nested too deeply, or too large")
        level = [inner for each in level for inner in _inner(each)]


def _inner(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def bounds(schema: Any, named: Mapping[str, Any]) -> Bounds:
    """The bounds of a schema that fastavro has parsed; raises BadSchema."""
    walk = _Walk(named)
    walk.visit(schema, 0)
    return Bounds(walk.recursive, walk.width)


class _Cost(NamedTuple):
    """The fewest bytes that a type takes (0 or 1 is enough), and the JSON that comes of them."""

    least: int
    text: int


def _text(kind: Any, text: int) -> int:
    """The JSON of a type's shortest value; text: as it is without a logical type."""
    # Of the logical types, only this one makes more of a few bytes than a time has.
    return _DECIMAL_TEXT + kind["scale"] if kind.get("logicalType") == DECIMAL else text


class _Walk:
    def __init__(self, named: Mapping[str, Any]) -> None:
        self._recursive: set[str] = set()
        self.width = _LEAST_WIDTH
        self._named = named
        self._known: dict[str, _Cost] = {}
        self._open: set[str] = set()

    @property
    def recursive(self) -> bool:
        return bool(self._recursive)

    def visit(self, kind: Any, depth: int) -> _Cost:
        if depth > _MAX_DEPTH:
            raise BadSchema("its types are nested too deeply")
        if isinstance(kind, list):
            for each in kind:
                self._repeated(each, depth, "")
            return _Cost(1, 4)
        if isinstance(kind, str):
            if kind in PRIMITIVE or kind in ("bytes", "string"):
                return _Cost(int(kind != "null"), 4)
            return self._name(kind, self._named.get(kind), depth)
        match kind["type"]:
            case "array" | "map" as what:
                # A map's keys take bytes; an array's items must.
                self._repeated(kind["items" if what == "array" else "values"], depth, what)
                return _Cost(1, 2)
            case "enum":
                return _Cost(1, 2 + max(map(len, kind["symbols"]), default=0))
            case "fixed":
                return _Cost(min(1, kind["size"]), _text(kind, 2))
            case "record" | "error":
                return self._name(kind["name"], kind, depth)
            case inner:
                cost = self.visit(inner, depth + 1)
                return _Cost(cost.least, _text(kind, cost.text))

    def _name(self, name: str, kind: Any, depth: int) -> _Cost:
        if name in self._open:
            # Within itself it is in a union, an array or a map, which takes a byte; or else it has
            # no end.
            self._recursive.add(name)
            return _Cost(1, 0)
        if name in self._known:
            return self._known[name]
        if kind is None:
            raise BadSchema("it names a type that it does not have")
        if kind["type"] not in ("record", "error"):
            return self.visit(kind, depth + 1)
        self._open.add(name)
        least, text = 0, 2
        for each in kind["fields"]:
            cost = self.visit(each["type"], depth + 1)
            least |= cost.least
            text += len(each["name"]) + 4 + cost.text
        if text > _MAX_TEXT:
            raise BadSchema("its smallest record is too large")
        self._open.remove(name)
        if name in self._recursive:
            self.width = max(self.width, text)
        self._known[name] = _Cost(least, text)
        return self._known[name]

    def _repeated(self, kind: Any, depth: int, what: str) -> None:
        """A type of which there may be one for every byte of a record."""
        cost = self.visit(kind, depth + 1)
        if what == "array" and not cost.least:
            raise BadSchema("it has an array whose items take no bytes")
        self.width = max(self.width, cost.text)
