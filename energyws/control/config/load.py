"""The configuration: file, environment and flags in, validated `Settings` or every problem out.

Flags win over `ENERGYWS_…` variables, these over the file, the file over the defaults. Values of
the file may hold `$(VAR)`; what is overridden is not looked at, so its variables need not be set.
Only the supervisor runs this; it is also the only place that imports pydantic.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from energyws.control.config import schema, yaml_tree
from energyws.control.config.interpolate import escape, interpolate
from energyws.control.config.origins import ANY, normalised
from energyws.control.config.overrides import PREFIX, apply_environment, apply_flags, unknown_key
from energyws.control.config.problems import (
    REDACTED,
    KeyPath,
    Location,
    Problems,
    is_secret,
    without_user_info,
)
from energyws.control.config.rules import check_files, cross_check, warnings
from energyws.control.config.secret_files import secret_files, with_secret_file, without_secret_file
from energyws.errors import ConfigError
from energyws.settings import Admin, Issuer, Settings, Stream

__all__ = [
    "check_files",
    "describe",
    "example",
    "load",
    "load_admin",
    "parse",
    "secret_files",
    "warnings",
    "with_secret_file",
]

_ADAPTER: Final = TypeAdapter(Settings)
_UNKNOWN_KEY: Final = "unexpected_keyword_argument"


def load(path: Path, *, env: Mapping[str, str], overrides: Sequence[str] = ()) -> Settings:
    """The settings of the file at `path`; see `parse`. Raises ConfigError, for the file too."""
    return with_secret_file(parse(_text(path), str(path), env, overrides))


def example() -> str:
    """The example file: every key with its default and its meaning."""
    # In a clone it is a link to config/config.example.yaml, in a wheel a copy.
    return Path(__file__).with_name("config.example.yaml").read_text(encoding="utf-8")


def load_admin(
    path: Path | None, *, env: Mapping[str, str], overrides: Sequence[str] = (), token: bool
) -> Admin:
    """The section `admin` of the file at `path` (None: there is no file), and of what wins over it.

    Whatever else is wrong with the configuration does not matter, so no secret need be set; nor
    admin.token, unless `token` says that it is wanted: else it is None. Raises ConfigError.
    """
    name = str(path) if path is not None else "the configuration"
    problems = Problems(name)
    tree = _read(_text(path) if path is not None else "", name, problems, section="admin")
    merged: dict[str, Any] = {k: v for k, v in (tree or {}).items() if k == "admin"}
    ours = {k: v for k, v in env.items() if k.upper().startswith(f"{PREFIX}ADMIN")}
    apply_environment(merged, ours, problems)
    apply_flags(merged, overrides, problems)
    admin = merged.get("admin")
    if not token and isinstance(admin, dict):
        admin = {key: value for key, value in admin.items() if key != "token"}
    settings = None
    if tree is not None:
        # Only there so that the whole has all that must be there.
        brokers = {"brokers": "none"}
        resolved = _resolve((), {"admin": admin}, env, problems)
        settings = _validate({"kafka": brokers, **resolved}, problems)
    if settings is None or problems:
        raise ConfigError(problems.lines())
    return settings.admin


def parse(
    text: str, source_name: str, env: Mapping[str, str], overrides: Sequence[str] = ()
) -> Settings:
    """The settings of a YAML text, of `env` and of `overrides` (`section.key=value`).

    Raises ConfigError with every problem at once, each with its place: `source_name` and line,
    variable or flag. No message ever holds the value of a secret or of a variable.
    """
    problems = Problems(source_name)
    tree = _read(text, source_name, problems)
    merged: dict[str, Any] = tree if tree is not None else {}
    apply_environment(merged, env, problems)
    apply_flags(merged, overrides, problems)
    settings = None
    if tree is not None:
        merged = _resolve((), merged, env, problems)
        merged.setdefault("kafka", {})
        settings = _validate(merged, problems)
        cross_check(merged, problems)
    if settings is None or problems:
        raise ConfigError(problems.lines())
    return _normalise(settings)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        there = path.parent.is_dir()
        make = "" if there else f"mkdir -p {shlex.quote(str(path.parent))} && "
        problem = (
            f"no such file: make one with `{make}energyws example-config > "
            f"{shlex.quote(str(path))}` and edit it, or set CONFIG_PATH to the one to use"
        )
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8: save the file as UTF-8"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise ConfigError([f"{path}: {problem}"])


def describe(settings: Settings) -> str:
    """The settings as YAML that `parse` takes, with `***` in place of every secret."""
    return yaml_tree.write(_presentable((), asdict(without_secret_file(settings))))


def _read(
    text: str, source_name: str, problems: Problems, section: str | None = None
) -> dict[str, Any] | None:
    """The file's values; None if there is no telling what they are.

    section: the only one whose faults matter, if not all do.
    """
    document = yaml_tree.read(text)

    def place(line: int, written: str | None = None) -> Location:
        return Location((0, line), f"{source_name}:{line}", written)

    for path, mark in document.marks.items():
        if path:
            problems.put(path, place(mark.line, mark.written))
    for fault in document.faults:
        if section is not None and document.tree is not None and fault.path[:1] != (section,):
            continue
        if fault.path:
            problems.add(fault.path, fault.text)
        else:
            problems.add_text(fault.text, place(fault.line))
    if isinstance(document.tree, dict):
        return document.tree
    if document.tree is None:
        return None if document.faults else {}
    problems.add_text("sections such as `kafka:` and `server:` belong at the top level", place(1))
    return None


def _resolve(path: KeyPath, value: Any, env: Mapping[str, str], problems: Problems) -> Any:
    """The value with its variables filled in; a section or list left empty is one without keys."""
    kind = schema.at(path)
    if value is None:
        return schema.empty(kind)
    if isinstance(value, dict):
        return {k: _resolve((*path, k), inner, env, problems) for k, inner in value.items()}
    if isinstance(value, list):
        return [_resolve((*path, i), inner, env, problems) for i, inner in enumerate(value)]
    if isinstance(value, str):
        return _resolve_text(path, value, env, problems)
    # pydantic would take true for 1.
    if isinstance(value, bool) and kind is not None and bool not in schema.alternatives(kind):
        _add_wrong(path, value, problems)
    return value


def _resolve_text(path: KeyPath, text: str, env: Mapping[str, str], problems: Problems) -> str:
    if problems.place(path).in_file:
        text, faults = interpolate(text, env)
        for fault in faults:
            problems.add(path, fault)
    try:
        text.encode()
    except UnicodeEncodeError:
        problems.add(path, "holds bytes that are not UTF-8")
    return text


def _validate(tree: dict[str, Any], problems: Problems) -> Settings | None:
    try:
        return _ADAPTER.validate_python(tree)
    except ValidationError as error:
        # Neither its texts nor the error itself go any further: both hold the input.
        errors = error.errors(include_url=False, include_context=False, include_input=False)
    # Unknown keys first: they may explain what is missing.
    for each in sorted(errors, key=lambda each: each["type"] != _UNKNOWN_KEY):
        loc = each["loc"]
        path = schema.longest_known(loc)
        if each["type"] == _UNKNOWN_KEY:
            problems.add(loc, unknown_key(loc, problems.place(loc), problems))
        elif each["type"] == "missing":
            if not problems.explain_absence(path):
                problems.add(path, f"missing: give {schema.allowed(schema.at(path))}")
        elif loc[-1] != "[key]" and not problems.wrong(path):
            value: Any = tree
            for part in path:
                value = value[part]
            _add_wrong(path, value, problems)
    return None


def _add_wrong(path: KeyPath, value: Any, problems: Problems) -> None:
    kind = schema.at(path)
    scalar = not (schema.is_mapping(kind) or schema.is_list(kind))
    found = problems.found(path, value, scalar=scalar)
    advice = f"use {schema.allowed(kind)}"
    if isinstance(value, bool | int | float) and advice.startswith("use a text"):
        advice += ", in quotes"
    problems.add(path, f"found {found}: {advice}")


def _normalise(settings: Settings) -> Settings:
    """The shorthands written out: `streams` and `auth.issuers` then tell it all.

    Origins are as browsers send them.
    """
    origins = tuple(map(normalised, settings.server.allowed_origins))
    origins = () if ANY in origins else origins
    settings = replace(settings, server=replace(settings.server, allowed_origins=origins))
    kafka, auth = settings.kafka, settings.auth
    if not auth.jwt_secret_previous:
        auth = replace(auth, jwt_secret_previous=None)
        settings = replace(settings, auth=auth)
    if kafka.topic is not None:
        # A stream energy beside it has the same topic: cross_check saw to that.
        streams = {"energy": Stream(topic=kafka.topic), **settings.streams}
        settings = replace(settings, streams=streams)
    if auth.jwks_url is None or auth.issuer is None:
        return settings
    if auth.issuer in [each.issuer for each in auth.issuers]:
        return settings
    short = Issuer(name="default", issuer=auth.issuer, jwks_url=auth.jwks_url)
    return replace(settings, auth=replace(auth, issuers=(short, *auth.issuers)))


def _presentable(path: KeyPath, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _presentable((*path, key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_presentable((*path, i), inner) for i, inner in enumerate(value)]
    if is_secret(path) and value is not None:
        return REDACTED
    return escape(without_user_info(value)) if isinstance(value, str) else value
