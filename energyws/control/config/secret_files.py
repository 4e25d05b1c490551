"""The secrets of `auth`, and the files that some of them are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from energyws.control.config.encoding import NotText, text_of
from energyws.control.config.problems import shown
from energyws.errors import ConfigError
from energyws.settings import Auth, Settings


def secrets(auth: Auth) -> dict[str, str | None]:
    """Each secret, or None, by its key."""
    return {"jwt_secret": auth.jwt_secret, "jwt_secret_previous": auth.jwt_secret_previous}


def secret_files(settings: Settings) -> dict[str, str]:
    """The paths of files with secrets, by the key of `auth` that has what they hold."""
    auth = settings.auth
    names = {
        "jwt_secret": auth.jwt_secret_file,
        "jwt_secret_previous": auth.jwt_secret_previous_file,
    }
    return {key: name for key, name in names.items() if name is not None}


def with_secret_file(settings: Settings) -> Settings:
    """The settings with what the files of secrets hold now; raises ConfigError with each problem.

    The previous secret's file may be empty: that ends the overlap of two.
    """
    held, problems = secrets(settings.auth), []
    for key, name in secret_files(settings).items():
        try:
            secret = text_of(Path(name).read_bytes())
        except (OSError, NotText) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            problems.append(f"auth.{key}_file: cannot read {shown(name)}: {reason}")
            continue
        if not secret and key == "jwt_secret":
            problems.append(f"auth.{key}_file: {shown(name)} is empty")
        held[key] = secret or None
    if problems:
        raise ConfigError(problems, "secret")
    return _holding(settings, held)


def without_secret_file(settings: Settings) -> Settings:
    """The settings without what the files of secrets hold."""
    files = secret_files(settings)
    held = {key: None if key in files else text for key, text in secrets(settings.auth).items()}
    return _holding(settings, held)


def _holding(settings: Settings, held: Mapping[str, str | None]) -> Settings:
    auth = replace(
        settings.auth,
        jwt_secret=held["jwt_secret"],
        jwt_secret_previous=held["jwt_secret_previous"],
    )
    return replace(settings, auth=auth)
