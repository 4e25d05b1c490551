"""File, environment and flags to validated `Settings`, or to every problem that they have.

Flags win over `ENERGYWS_…` variables, variables over the file, the file over the defaults. Values
in the file may hold `$(VAR)`; the variables of an overridden value need not be set. Only the
supervisor and the command line run this; nothing else imports pydantic.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from energyws.control.config import schema, yaml_tree
from energyws.control.config.files import with_secret_files, without_secret_files
from energyws.control.config.interpolate import escape, interpolate
from energyws.control.config.origins import ANY, normalised
from energyws.control.config.overrides import PREFIX, apply_environment, apply_flags, unknown_key
from energyws.control.config.problems import (
    REDACTED,
    KeyPath,
    Problems,
    is_secret,
    without_user_info,
)
from energyws.control.config.rules import cross_check
from energyws.errors import ConfigError
from energyws.settings import Admin, Issuer, Settings, Stream

_ADAPTER: Final = TypeAdapter(Settings)
_UNKNOWN_KEY: Final = "unexpected_keyword_argument"


def load(path: Path, *, env: Mapping[str, str], overrides: Sequence[str] = ()) -> Settings:
    """The settings of the file at `path`, secrets from their files included; see `parse`."""
    return with_secret_files(parse(_text(path), str(path), env, overrides))


def example() -> str:
    """The example file: every key with its default and a comment."""
    # In a clone it is a link to config/config.example.yaml, in a wheel a copy.
    return Path(__file__).with_name("config.example.yaml").read_text(encoding="utf-8")


def load_admin(
    path: Path | None, *, env: Mapping[str, str], overrides: Sequence[str] = (), token: bool
) -> Admin:
    """The section `admin`, from the file at `path` (None: no file) and what overrides it.

    Other sections may be wrong, and their secrets missing. token: whether admin.token is needed;
    if not, it is None, and its variable need not be set. Raises ConfigError.
    """
    problems = Problems(str(path) if path is not None else "the configuration")
    tree = _read(_text(path) if path is not None else "", problems)
    merged = {}
    if tree is not None:
        problems.keep("admin")
        merged = {key: value for key, value in tree.items() if key == "admin"}
    ours = {key: value for key, value in env.items() if key.upper().startswith(f"{PREFIX}ADMIN")}
    apply_environment(merged, ours, problems)
    apply_flags(merged, overrides, problems)
    admin = merged.get("admin")
    if not token and isinstance(admin, dict):
        admin.pop("token", None)
    settings = None
    if tree is not None:
        # The brokers are required, but not used.
        whole = {"kafka": {"brokers": "none"}, "admin": admin}
        settings = _validate(_resolve((), whole, env, problems), problems)
    if settings is None or problems:
        raise ConfigError(problems.lines())
    return settings.admin


def parse(
    text: str, source_name: str, env: Mapping[str, str], overrides: Sequence[str] = ()
) -> Settings:
    """The settings of a YAML text, of `env` and of `overrides` (`section.key=value`).

    Raises ConfigError with every problem, each with its location: `source_name` and line, variable
    or flag. No message holds the value of a secret or of a variable.
    """
    problems = Problems(source_name)
    tree = _read(text, problems)
    merged = tree or {}
    apply_environment(merged, env, problems)
    apply_flags(merged, overrides, problems)
    settings = None
    if tree is not None:
        merged = {"kafka": {}, **_resolve((), merged, env, problems)}
        settings = _validate(merged, problems)
        cross_check(merged, problems)
    if settings is None or problems:
        raise ConfigError(problems.lines())
    return _normalise(settings)


def describe(settings: Settings) -> str:
    """The settings as YAML that `parse` reads, with `***` in place of every secret."""
    return yaml_tree.write(_presentable((), asdict(without_secret_files(settings))))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        parent = "" if path.parent.is_dir() else f"mkdir -p {shlex.quote(str(path.parent))} && "
        problem = (
            f"no such file: make one with `{parent}energyws example-config > "
            f"{shlex.quote(str(path))}` and edit it, or set CONFIG_PATH to the one to use"
        )
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8: save the file as UTF-8"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise ConfigError([f"{path}: {problem}"])


def _read(text: str, problems: Problems) -> dict[str, Any] | None:
    """The file's values; None if they cannot be known."""
    tree = yaml_tree.read(text, problems)
    if tree is None:
        return None if problems else {}
    if isinstance(tree, dict):
        return tree
    location = problems.line(1)
    problems.add_text("sections such as `kafka:` and `server:` belong at the top level", location)
    return None


def _resolve(path: KeyPath, value: Any, env: Mapping[str, str], problems: Problems) -> Any:
    """The value with its variables filled in; an empty section or list becomes {} or []."""
    kind = schema.at(path)
    if value is None:
        return schema.empty(kind)
    if isinstance(value, dict):
        return {k: _resolve((*path, k), inner, env, problems) for k, inner in value.items()}
    if isinstance(value, list):
        return [_resolve((*path, i), inner, env, problems) for i, inner in enumerate(value)]
    if isinstance(value, str):
        return _resolve_text(path, value, env, problems)
    # pydantic would accept true as 1.
    if isinstance(value, bool) and kind is not None and bool not in schema.alternatives(kind):
        # In YAML 1.1, the word off is a boolean.
        written = (problems.location(path).written or "").lower()
        if written in schema.words(kind):
            return written
        _add_wrong(path, value, problems)
    return value


def _resolve_text(path: KeyPath, text: str, env: Mapping[str, str], problems: Problems) -> str:
    if problems.location(path).in_file:
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
        # The error and its messages must not get any further: both hold the input.
        errors = error.errors(include_url=False, include_context=False, include_input=False)
    # Unknown keys first: one may be the reason that another is missing.
    for each in sorted(errors, key=lambda each: each["type"] != _UNKNOWN_KEY):
        loc = each["loc"]
        path = schema.longest_known(loc)
        if each["type"] == _UNKNOWN_KEY:
            problems.add(loc, unknown_key(loc, problems.location(loc), problems))
        elif each["type"] == "missing":
            if not problems.explain_absence(path):
                problems.add(path, f"missing: set it to {schema.allowed(schema.at(path))}")
        elif loc[-1] != "[key]" and not problems.wrong(path):
            value: Any = tree
            for part in path:
                value = value[part]
            _add_wrong(path, value, problems)
    return None


def _add_wrong(path: KeyPath, value: Any, problems: Problems) -> None:
    kind = schema.at(path)
    allowed = schema.allowed(kind)
    if isinstance(value, bool | int | float) and allowed.endswith("string"):
        allowed += ", in quotes"
    scalar = not (schema.is_mapping(kind) or schema.is_list(kind))
    found = problems.found(path, value, scalar=scalar)
    problems.add(path, f"found {found}: use {allowed}" if found else f"must be {allowed}")


def _normalise(settings: Settings) -> Settings:
    """The settings with shorthands written out (`streams` and `auth.issuers` are then complete),
    and origins as browsers send them."""
    server, kafka, auth, streams = settings.server, settings.kafka, settings.auth, settings.streams
    origins = tuple(map(normalised, server.allowed_origins))
    if kafka.topic is not None:
        # cross_check made sure that a stream energy, if there is one, has the same topic.
        streams = {"energy": Stream(topic=kafka.topic), **streams}
    issuers = auth.issuers
    if auth.jwks_url and auth.issuer and auth.issuer not in [each.issuer for each in issuers]:
        default = Issuer(name="default", issuer=auth.issuer, jwks_url=auth.jwks_url)
        issuers = (default, *issuers)
    previous = auth.jwt_secret_previous or None
    return replace(
        settings,
        streams=streams,
        server=replace(server, allowed_origins=() if ANY in origins else origins),
        auth=replace(auth, issuers=issuers, jwt_secret_previous=previous),
    )


def _presentable(path: KeyPath, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _presentable((*path, key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_presentable((*path, i), inner) for i, inner in enumerate(value)]
    if is_secret(path) and value is not None:
        return REDACTED
    return escape(without_user_info(value)) if isinstance(value, str) else value
