"""The command line of a measurement, and the file that its results go to."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import orjson

_PACKAGES: Final = ("energyws", "picows", "aiofastnet", "uvloop", "pyzmq", "confluent-kafka")


def arguments(doc: str | None, *, prog: str | None = None) -> argparse.ArgumentParser:
    """A parser with --out for a module with this docstring; from here on SIGTERM raises."""
    # So that everything that was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(
        prog=prog, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", help="write the results here, as JSON")
    return parser


def save(
    path: str | None, results: Mapping[str, Any], versions: Mapping[str, str] | None = None
) -> None:
    """Write results with what they were measured on, as JSON; versions: of other programs."""
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
    # A package is called after its directory.
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
