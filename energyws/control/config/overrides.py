"""What the environment and the flags set, over the file: `ENERGYWS_SERVER__PORT=9000` and
`--set server.port=9000`.

The type of the key decides how the text is read: a list is read as YAML (`[a, b]`); for anything
else the text is the value, so that the secret `12345` stays a text.
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
# Kubernetes gives every pod such variables for each Service of its namespace, and a Service for
# this program is likely to be called energyws, or energyws-admin.
_SERVICE_LINK: Final = re.compile(
    r"ENERGYWS(_[A-Z0-9]+)*"
    r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9]+)*|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://\S+:[0-9]+")


def apply_environment(tree: dict[str, Any], env: Mapping[str, str], problems: Problems) -> None:
    """Put every `ENERGYWS_…` variable into the tree; names count in any case."""
    seen: dict[KeyPath, str] = {}
    for number, name in enumerate(sorted(env)):
        text = env[name]
        if not name.upper().startswith(PREFIX) or _is_service_link(name, text):
            continue
        path = _environment_path(name)
        place = Location((_ENVIRONMENT_RANK, number), f"environment variable {name}", f'"{text}"')
        if path in seen:
            problems.add_text(f"sets {dotted(path)}, as {seen[path]} does: keep one", place)
            continue
        seen[path] = name
        _apply(tree, path, text, place, problems)


def apply_flags(tree: dict[str, Any], flags: Sequence[str], problems: Problems) -> None:
    """Put every `section.key=value` into the tree; the last one for a key counts."""
    for number, flag in enumerate(flags):
        name, equals, text = flag.partition("=")
        place = Location((_FLAG_RANK, number), "--set", f'"{text}"')
        if not equals:
            # Not shown: without its key it could be anything, a secret too.
            problems.add_text(
                f"number {number + 1} has no =: write section.key=value, such as server.port=9000",
                place,
            )
            continue
        _apply(tree, schema.locate(name.strip().split(".")), text, place, problems)


def unknown_key(path: KeyPath, place: Location, problems: Problems) -> str:
    """What to say of a key that does not exist; takes note of those that may have been meant."""
    meant = schema.suggest(path)
    for each in meant:
        problems.add_meant(each)
    if meant:
        return f"unknown key: did you mean {' or '.join(_name(each, place) for each in meant)}?"
    section = path[:-1]
    names = ", ".join(schema.keys(schema.at(section)))
    return f"unknown key: {dotted(section) or 'the top level'} has {names}"


def _is_service_link(name: str, text: str) -> bool:
    if _LEVEL in name:
        return False
    if name.endswith("_PORT") and _SERVICE_URL.fullmatch(text):
        return True
    return _SERVICE_LINK.fullmatch(name) is not None


def _environment_path(name: str) -> KeyPath:
    parts = name[len(PREFIX) :].lower().split(_LEVEL)
    path = schema.locate(parts)
    if path[:2] == ("kafka", "options"):
        # Shells cannot export a name with dots, and no option of librdkafka that takes a text has
        # an underscore.
        return path[:2] + tuple(str(part).replace("_", ".") for part in path[2:])
    return path


def _environment_name(path: KeyPath) -> str:
    return PREFIX + _LEVEL.join(str(part) for part in path).upper()


def _name(path: KeyPath, place: Location) -> str:
    return _environment_name(path) if place.rank[0] == _ENVIRONMENT_RANK else dotted(path)


def _apply(
    tree: dict[str, Any], path: KeyPath, text: str, place: Location, problems: Problems
) -> None:
    kind = schema.at(path)
    value: Any = text
    if kind is None:
        problems.add_text(_no_such_key(path, place, problems), place)
        return
    if schema.is_mapping(kind):
        example = _name(schema.first_key(path), place)
        problems.add_text(f"{dotted(path)}: a section: set its keys, such as {example}", place)
        return
    if schema.is_list(kind):
        document = yaml_tree.read(text)
        if document.faults:
            problems.put(path, place)
            problems.add(path, f"cannot be read: use {schema.allowed(kind)}, as in [a, b]")
            return
        value = document.tree
    section: Any = tree
    for part in path[:-1]:
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        if not isinstance(section, dict):
            # The file has a value in the section's place, which is a problem of its own.
            return
    section[path[-1]] = value
    problems.put(path, place)


def _no_such_key(path: KeyPath, place: Location, problems: Problems) -> str:
    known = schema.longest_known(path)
    kind = schema.at(known)
    if not schema.is_mapping(kind):
        return f"{dotted(path)}: {dotted(known)} is set as a whole: use {schema.allowed(kind)}"
    unknown = path[: len(known) + 1]
    return f"{dotted(unknown)}: {unknown_key(unknown, place, problems)}"
