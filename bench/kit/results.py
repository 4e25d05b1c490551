"""The command line of a measurement, and its results file."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson

_PACKAGES: Final = ("energyws", "picows", "aiofastnet", "uvloop", "pyzmq", "confluent-kafka")
_HELP: Final = {
    "bytes": "size of a frame's payload",
    "load": "deliveries a second",
    "rate": "records a second",
}


def arguments(
    doc: str | None, *, prog: str | None = None, **options: float
) -> argparse.ArgumentParser:
    """A parser with --out and these options, for the module with this docstring.

    options: names and defaults of numeric options. From here on, SIGTERM raises SystemExit.
    """
    # So that context managers end every process that was started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(
        prog=prog, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=_HELP.get(name))
    parser.add_argument("--out", help="write the results here, as JSON")
    return parser


def collected(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print each row when it is measured; all rows."""
    found = []
    for row in rows:
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
        found.append(row)
    return found


def save(
    path: str | None, results: Mapping[str, Any], versions: Mapping[str, str] | None = None
) -> None:
    """Write the results as JSON, with machine and versions. versions: of other programs."""
    if path is None:
        return
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    script = Path(sys.argv[0])
    # For a package, sys.argv[0] is its __main__.py.
    program = script.parent.name if script.stem == "__main__" else script.name
    document = {
        "command": [program, *sys.argv[1:]],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {**{name: version(name) for name in _PACKAGES}, **(versions or {})},
        "results": results,
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
