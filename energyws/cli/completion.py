"""`energyws completion`: scripts with which a shell completes verbs, options and names of files."""

from __future__ import annotations

import argparse
from typing import Any, Final

SHELLS: Final = ("bash", "zsh", "fish", "tcsh", "powershell")


def takes_file(option: Any) -> None:
    """Have a shell complete the names of files after this option."""
    # An attribute that shtab looks for.
    option.complete = "file"


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for one of SHELLS."""
    import shtab

    return shtab.complete(parser, shell)
