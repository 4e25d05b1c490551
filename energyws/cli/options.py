"""The options of several verbs: the configuration file, and keys that override it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from energyws.cli.completion import takes_file
from energyws.settings import Admin, Settings

DEFAULT_CONFIG: Final = "config/config.yaml"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add --config and --set."""
    takes_file(
        parser.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help=f"the YAML file (default: $CONFIG_PATH, else {DEFAULT_CONFIG})",
        )
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        help="override one key (repeatable)",
    )


# The control plane's libraries are imported where they are used: `energyws tail` does without.
def load(options: argparse.Namespace) -> Settings:
    """The settings that the options name; raises ConfigError."""
    from energyws.control.config import load

    path = options.config or _default()
    return load.load(path, env=os.environ, overrides=options.overrides)


def load_admin(options: argparse.Namespace, *, token: bool = False) -> Admin:
    """The section `admin` alone: see `energyws.control.config.load.load_admin`.

    Without --config the default file may be missing: then the section has its defaults.
    """
    path = options.config
    # Not Path.exists, which raises PermissionError for a directory that may not be searched.
    if path is None and os.path.exists(_default()):
        path = _default()
    return _admin(path, options, token=token)


def names_admin(options: argparse.Namespace) -> bool:
    """Whether any flag, variable or file may say where the admin port is."""
    return bool(
        options.config is not None
        or options.overrides
        or os.environ.get("CONFIG_PATH")
        or any(name.startswith("ENERGYWS_ADMIN__") for name in os.environ)
        or os.path.exists(_default())
    )


def load_token(options: argparse.Namespace) -> str | None:
    """admin.token; the file is read only if no flag and no variable has it. Raises ConfigError."""
    found = _admin(None, options, token=True).token
    return load_admin(options, token=True).token if found is None else found


def _admin(path: Path | None, options: argparse.Namespace, *, token: bool) -> Admin:
    from energyws.control.config import load

    return load.load_admin(path, env=os.environ, overrides=options.overrides, token=token)


def _default() -> Path:
    return Path(os.environ.get("CONFIG_PATH") or DEFAULT_CONFIG)
