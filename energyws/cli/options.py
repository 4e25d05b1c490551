"""What several verbs of the command line take: the configuration, and what overrides it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from energyws.settings import Admin, Settings

DEFAULT_CONFIG: Final = "config/config.yaml"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Where the configuration is, and single keys that win over it."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"the YAML file (default: $CONFIG_PATH, else {DEFAULT_CONFIG})",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        help="override one key (repeatable)",
    )


# The control plane's libraries are imported where they are used: `energyws tail` needs none.
def load(options: argparse.Namespace) -> Settings:
    """The settings that the options stand for; raises ConfigError."""
    from energyws.control.config import load

    path = options.config or _usual()
    return load.load(path, env=os.environ, overrides=options.overrides)


def load_admin(options: argparse.Namespace, *, token: bool = False) -> Admin:
    """The section `admin` alone; see `energyws.control.config.load_admin`. Raises ConfigError.

    Where --config names no file, there need not be one: then the section stands at its defaults.
    """
    path = options.config
    # Not Path.exists, which fails where a directory on the way may not be searched.
    if path is None and os.path.exists(_usual()):
        path = _usual()
    return _admin(path, options, token=token)


def load_token(options: argparse.Namespace) -> str | None:
    """admin.token, without a look at the file where a flag or the environment has it.

    Raises ConfigError.
    """
    found = _admin(None, options, token=True).token
    return load_admin(options, token=True).token if found is None else found


def _admin(path: Path | None, options: argparse.Namespace, *, token: bool) -> Admin:
    from energyws.control.config import load

    return load.load_admin(path, env=os.environ, overrides=options.overrides, token=token)


def _usual() -> Path:
    return Path(os.environ.get("CONFIG_PATH") or DEFAULT_CONFIG)
