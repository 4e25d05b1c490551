"""Values of the environment and of flags: `ENERGYWS_SERVER__PORT=9000`, `--set server.port=9000`.

A list is read as YAML (`[a, b]`). For any other key the text is the value, so that the secret
`12345` stays a string.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from energyws.control.config import schema, yaml_tree
from energyws.control.config.problems import KeyPath, Location, Problems, dotted

PREFIX: Final = "ENERGYWS_"
_LEVEL: Final = "__"
_ENVIRONMENT_RANK: Final = 1
_FLAG_RANK: Final = 2
# Kubernetes sets such variables in every pod for each Service of its namespace, and a Service for
# this program is probably called energyws, or energyws-metrics.
_SERVICE_LINK: Final = re.compile(
    r"ENERGYWS(_[A-Z0-9]+)*"
    r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9]+)*|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://\S+:[0-9]+")


def apply_environment(tree: dict[str, Any], env: Mapping[str, str], problems: Problems) -> None:
    """Put every `ENERGYWS_…` variable into the tree; the case of names does not matter."""
    seen: dict[KeyPath, str] = {}
    for number, name in enumerate(sorted(env)):
        text = env[name]
        if not name.upper().startswith(PREFIX) or _is_service_link(name, text):
            continue
        path = _environment_path(name)
        where = f"environment variable {name}"
        location = Location((_ENVIRONMENT_RANK, number), where, f'"{text}"')
        if path in seen:
            problems.add_text(f"sets {dotted(path)}, as {seen[path]} does: remove one", location)
            continue
        seen[path] = name
        _apply(tree, path, text, location, problems)


def apply_flags(tree: dict[str, Any], flags: Sequence[str], problems: Problems) -> None:
    """Put every `section.key=value` into the tree; the last one of a key wins."""
    for number, flag in enumerate(flags):
        name, equals, text = flag.partition("=")
        location = Location((_FLAG_RANK, number), "--set", f'"{text}"')
        if not equals:
            # The text is not shown: it may be a secret.
            text = f"number {number + 1} has no =: write section.key=value, as in server.port=9000"
            problems.add_text(text, location)
            continue
        _apply(tree, schema.locate(name.strip().split(".")), text, location, problems)


def unknown_key(path: KeyPath, location: Location, problems: Problems) -> str:
    """The message about a key that does not exist; records the keys that may have been meant."""
    meant = schema.suggest(path)
    for each in meant:
        problems.add_meant(each)
    if meant:
        return f"unknown key: did you mean {' or '.join(_name(each, location) for each in meant)}?"
    section = path[:-1]
    kind = schema.at(section)
    names = ", ".join(schema.keys(kind)) or f"no keys: set it to {schema.allowed(kind)}"
    return f"unknown key: {dotted(section) or 'the top level'} has {names}"


def _is_service_link(name: str, text: str) -> bool:
    is_url = name.endswith("_PORT") and _SERVICE_URL.fullmatch(text)
    return _LEVEL not in name and bool(is_url or _SERVICE_LINK.fullmatch(name))


def _environment_path(name: str) -> KeyPath:
    parts = name[len(PREFIX) :].lower().split(_LEVEL)
    path = schema.locate(parts)
    if path[:2] == ("kafka", "options"):
        # Shells cannot export a name with dots, and no option of librdkafka that is a string has an
        # underscore.
        return path[:2] + tuple(str(part).replace("_", ".") for part in path[2:])
    return path


def _name(path: KeyPath, location: Location) -> str:
    """The key as it is written at such a location."""
    if location.rank[0] == _ENVIRONMENT_RANK:
        return PREFIX + _LEVEL.join(map(str, path)).upper()
    return dotted(path)


def _apply(
    tree: dict[str, Any], path: KeyPath, value: Any, location: Location, problems: Problems
) -> None:
    kind = schema.at(path)
    if kind is None:
        unknown = path[: len(schema.longest_known(path)) + 1]
        text = f"{dotted(unknown)}: {unknown_key(unknown, location, problems)}"
        problems.add_text(text, location)
        return
    if schema.is_mapping(kind):
        example = _name(schema.first_key(path), location)
        text = f"{dotted(path)}: is a section: set its keys, such as {example}"
        problems.add_text(text, location)
        return
    if schema.is_list(kind):
        faults = Problems("")
        value = yaml_tree.read(value, faults)
        if faults:
            problems.put(path, location)
            problems.add(path, f"cannot be read: use {schema.allowed(kind)}, as in [a, b]")
            return
    section: Any = tree
    for part in path[:-1]:
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        if not isinstance(section, dict):
            # The file has a single value instead of a section, which is a problem of its own.
            return
    section[path[-1]] = value
    problems.put(path, location)
