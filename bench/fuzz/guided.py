"""The same targets by coverage: atheris looks for inputs that reach new lines of Python."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path


def run(names: list[str], seed: int, seconds: int) -> int:
    """Each target for some seconds, in a process of its own; the status of the first that fails."""
    if find_spec("atheris") is None:
        print("atheris is not installed: .venv/bin/pip install 'atheris>=3,<4'", file=sys.stderr)
        return 2
    # Not at the top: what `main` below instruments must not have been imported before.
    from bench.fuzz.pieces import inputs
    from bench.fuzz.targets import TARGETS

    for name in names:
        if name not in TARGETS:
            print(f"{name} cannot be guided: its inputs are no bytes", file=sys.stderr)
            return 2
        with tempfile.TemporaryDirectory() as directory:
            for number, data in enumerate(inputs(name)):
                Path(directory, str(number)).write_bytes(data)
            limits = [
                f"-seed={seed}",
                f"-max_total_time={seconds}",
                "-max_len=4096",
                "-print_final_stats=1",
            ]
            program = [sys.executable, "-m", "bench.fuzz.guided", name, *limits, directory]
            if status := subprocess.run(program).returncode:
                return status
    return 0


def main() -> None:
    import atheris  # type: ignore[import-untyped]

    with atheris.instrument_imports(include=["energyws", "workers"]):
        from bench.fuzz.targets import TARGETS
    target, _ = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, lambda data: target(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
