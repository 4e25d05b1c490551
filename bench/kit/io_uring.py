"""Whether the workers of a service under measurement send live frames by io_uring."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Final

from energyws.process.io_uring import IoUring

SETTINGS: Final = ("auto", "off")


def said(boards: Mapping[str, Mapping[str, Any]]) -> str:
    """The label of the workers' state, or of several with commas; empty: none has said so yet.

    boards: by the child's name.
    """
    # Workers of another revision never say.
    states = {
        IoUring(board.get("io_uring", IoUring.UNKNOWN))
        for name, board in boards.items()
        if name.startswith("worker-")
    }
    return ", ".join(state.label for state in sorted(states - {IoUring.UNKNOWN}))


def add_argument(parser: argparse.ArgumentParser) -> None:
    """--io-uring for a measurement that compares both settings unless told otherwise."""
    parser.add_argument(
        "--io-uring",
        choices=SETTINGS,
        action="append",
        help="server.io_uring of the service; default: a service with each, in the same rounds",
    )


def settings(options: argparse.Namespace, *, tls: bool) -> list[str]:
    """The settings to compare, each with a service of its own; with TLS there is no difference."""
    chosen = [each for each in SETTINGS if each in (options.io_uring or SETTINGS)]
    return chosen[:1] if tls else chosen
