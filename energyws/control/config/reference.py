"""The configuration reference, docs/configuration.md: a row for each key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from typing import Any, Final, get_args

from energyws.control.config import descriptions, schema
from energyws.control.config.problems import KeyPath, dotted
from energyws.settings import Settings

_HEAD: Final = """\
# Configuration

<!-- Made by `energyws config-schema --markdown > docs/configuration.md`; do not edit. -->

The file is YAML; `energyws example-config` prints one with every key.
`ENERGYWS_SERVER__PORT=9000` overrides the file, and `--set server.port=9000` overrides both.
`$(NAME)` in the file is replaced by the environment variable NAME; `$$(` is a plain `$(`.
`energyws check-config` prints the values in effect, or every problem with its line.

`energyws config-schema` prints a JSON Schema, with which editors complete keys and mark mistakes.
The first line of the example file names it as `config.schema.json`, in the same directory:

<!-- run by: tests/docs/test_commands.py::test_schema_for_editors -->
```sh
energyws config-schema > config/config.schema.json
```

Every editor with yaml-language-server reads that line, such as VS Code with its YAML extension.

The last column says when a change takes effect after `energyws reload`.
[operations.md](operations.md#rolling-restart-and-reload) has the details.
"""
_UNSET: Final = "not set"
_REQUIRED: Final = "required"
_TABLE: Final = "| key | values | default | meaning | reload |\n|---|---|---|---|---|\n"


def page(takes: Callable[[str], str]) -> str:
    """The whole page. takes: when a change of `section.key` has effect."""
    parts = [_HEAD]
    for name, kind in schema.keys(Settings).items():
        text = descriptions.of_section(kind) if schema.keys(kind) else ""
        intro = f"{text}\n\n" if text else ""
        rows = "".join(_row(*each, takes) for each in _rows((name,), kind))
        parts.append(f"\n## {name}\n\n{intro}{_TABLE}{rows}")
    return "".join(parts)


def _rows(path: KeyPath, kind: Any) -> Iterator[tuple[KeyPath, Any, str]]:
    """Path, type and default of each key, with the keys inside those that the operator names."""
    if not schema.keys(kind):
        yield path, kind, _UNSET
        yield from _inside((*path, "name"), get_args(kind)[1])
        return
    for each in fields(schema.alternatives(kind)[0]):
        own, inner = (*path, each.name), schema.keys(kind)[each.name]
        yield own, inner, _default(each)
        yield from _inside(own, inner)
        if schema.is_list(inner):
            yield from _inside((*own, 0), get_args(inner)[0])


def _inside(path: KeyPath, kind: Any) -> Iterator[tuple[KeyPath, Any, str]]:
    types = schema.keys(kind)
    for each in fields(schema.alternatives(kind)[0]) if types else ():
        own, inner = (*path, each.name), types[each.name]
        yield own, inner, _default(each)
        yield from _inside(own, inner)


def _default(field: Field[Any]) -> str:
    if field.default in (None, ()) or field.default_factory is not MISSING:
        return _UNSET
    return _REQUIRED if field.default is MISSING else f"`{json.dumps(field.default)}`"


def _row(path: KeyPath, kind: Any, default: str, takes: Callable[[str], str]) -> str:
    key = dotted(path).replace("[0]", "[]").replace("streams.name", "streams.<name>")
    when = takes(dotted(path[:2] if path[0] != "streams" else path[:1]))
    cells = f"`{key}`", schema.allowed(kind), default, descriptions.of_key(path), when
    return f"| {' | '.join(cells)} |\n"
