"""The tools that check deployment files, and schemas that are not packaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

# How to install each tool.
_ORIGINS: Final = {
    "go": "pip install '.[deploy]'",
    "kustomize": "make check-deploy",
    "prometheus": "apt-get install prometheus",
    "promtool": "apt-get install prometheus",
    "systemd-analyze": "apt-get install systemd",
}
_OPERATOR: Final = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
_COMPOSE: Final = "github.com/compose-spec/compose-go/v2@v2.10.1"
SECONDS: Final = 120


def tool(name: str) -> str:
    """The path of a tool; without it the test fails with the command that installs it."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: {_ORIGINS[name]}")
    return found


def run(name: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a tool; the caller checks its status."""
    command = [tool(name), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False, **options
    )


def output(done: subprocess.CompletedProcess[str]) -> str:
    """Standard output and standard error of a tool."""
    return done.stdout + done.stderr


def _module(name: str) -> Path:
    """The directory of a Go module, whose checksum Go has verified."""
    done = run("go", "mod", "download", "-json", name)
    assert done.returncode == 0, output(done)
    return Path(json.loads(done.stdout)["Dir"])


def compose_schema() -> Any:
    """The JSON schema of the Compose Specification."""
    return json.loads((_module(_COMPOSE) / "schema" / "compose-spec.json").read_text())


def operator_definitions() -> Path:
    """The directory with the CustomResourceDefinitions of the Prometheus Operator."""
    return _module(_OPERATOR) / "example" / "prometheus-operator-crd"
