"""The service without its counters, for bench.metrics.

    python -m bench.metrics.uncounted serve --config FILE

Its children update none of the counters in /metrics, except for heartbeats, which the supervisor
needs.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from pathlib import Path
from typing import Final

from energyws.control.children.spawn import ChildSpec, module_command
from energyws.control.config.load import load
from energyws.control.supervisor import serve
from energyws.logs import writer
from energyws.process.board import Field, Row
from energyws.process.counters import Family, Histogram

_CHILD: Final = "--child"


def _beat_only(row: Row, column: int, amount: int = 1) -> None:
    if column == Field.BEAT:
        row[column] += amount


def _count_nothing() -> None:
    for owner, name, instead in (
        (Row, "add", _beat_only),
        (Family, "count", lambda family, row, *labels, amount=1: None),
        (Histogram, "observe", lambda histogram, row, seconds: None),
    ):
        setattr(owner, name, instead)


def _command(spec: ChildSpec) -> list[str]:
    *interpreter, module = module_command(spec)
    return [*interpreter, __spec__.name, _CHILD, module]


def _run_child() -> None:
    _count_nothing()
    module = sys.argv[2]
    sys.argv[1:3] = []
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("serve", choices=["serve"])
    parser.add_argument("--config", type=Path, required=True)
    options = parser.parse_args()
    settings = load(options.config, env=os.environ)
    writer.configure(settings.log, "supervisor")
    return serve(settings, lambda: settings, _command)


if __name__ == "__main__":
    if sys.argv[1:2] == [_CHILD]:
        _run_child()
    else:
        sys.exit(main())
