"""From a clone to a live gauge in a browser, step by step, in seconds.

    python -m bench.first_gauge --out bench/results/first_gauge.json

Clones this repository into a temporary directory, runs `make demo` there, and opens the page that
it prints in a headless Chromium, which has been started before, as a user's has been. cold: pip
has nothing in its cache; warm: everything. Steps are wall time, and `cpu` is what all processes of
the step used, which says more on a busy machine; of the demo only the whole is known.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, sync_playwright

from bench.kit.results import arguments, collected, save

ROOT: Final = Path(__file__).parents[1]
PATIENCE_SECONDS: Final = 300.0
# The lines of the demo, in their order.
_BROKER: Final = re.compile(r"  127\.0\.0\.1:\d+, topic")
_PAGE: Final = re.compile(r"the page, with its token: (\S+)")
_READING: Final = re.compile(r" W  ")
# Without an expression, which the page's Content Security Policy would refuse.
_NUMBER: Final = "[role=meter][aria-valuenow]:not([aria-valuenow='0'])"


class Steps:
    """Rows of a table: what was reached, and after how long."""

    def __init__(self, cache: str) -> None:
        self._cache = cache
        self._start = self._last = time.monotonic()
        self._cpu = _cpu_seconds()

    def reached(self, step: str) -> dict[str, Any]:
        now, cpu = time.monotonic(), _cpu_seconds()
        row = {
            "cache": self._cache,
            "step": step,
            "seconds": round(now - self._last, 2),
            "total": round(now - self._start, 2),
            "cpu": round(cpu - self._cpu, 2),
        }
        self._last, self._cpu = now, cpu
        return row


def measured(cache: str, pip_cache: Path, browser: Browser) -> Iterator[dict[str, Any]]:
    """One run; a row per step."""
    with tempfile.TemporaryDirectory(prefix="first-gauge-") as directory:
        clone = Path(directory) / "energyws"
        environment = {
            **{k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "VIRTUAL_ENV")},
            "PIP_CACHE_DIR": str(pip_cache),
            "XDG_RUNTIME_DIR": directory,
        }
        steps = Steps(cache)
        # What a network adds is not measured here.
        run = ["git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", str(clone)]
        subprocess.run(run, check=True)
        yield steps.reached("clone")
        for target, step in ((".venv/.made", "venv"), (".venv/.runtime", "install")):
            subprocess.run(["make", "--silent", target], cwd=clone, env=environment, check=True)
            yield steps.reached(step)
        with _demo(clone, environment) as lines:
            _find(_BROKER, lines)
            yield steps.reached("broker")
            url = _find(_PAGE, lines)[1]
            yield steps.reached("service")
            _find(_READING, lines)
            yield steps.reached("first reading")
            with browser.new_page() as page:
                page.goto(url)
                yield steps.reached("page loaded")
                page.locator(_NUMBER).first.wait_for(timeout=PATIENCE_SECONDS * 1000)
                yield steps.reached("gauge shows a number")
        yield steps.reached("ended")


@contextmanager
def _chromium() -> Iterator[Browser]:
    """The Chromium of this machine; it connects to nothing else."""
    options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        executable = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=executable, args=options)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def _demo(clone: Path, environment: Mapping[str, str]) -> Iterator[Iterator[str]]:
    """Run `make demo`; yields its lines."""
    with subprocess.Popen(
        ["make", "--silent", "demo"],
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield iter(process.stdout)
        finally:
            # make passes the signal on.
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def _find(pattern: re.Pattern[str], lines: Iterator[str]) -> re.Match[str]:
    for line in lines:
        if (match := pattern.search(line)) is not None:
            return match
    raise RuntimeError(f"the demo has ended without a line like {pattern.pattern!r}")


def _cpu_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    options = arguments(__doc__).parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="first-gauge-pip-") as directory,
        _chromium() as browser,
    ):
        # The first run fills the cache for the second.
        rows = [
            row
            for cache in ("cold", "warm")
            for row in collected(measured(cache, Path(directory), browser))
        ]
        kept = sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())
        if kept == 0:
            print("pip's index does not let it keep anything: the second run was cold, too")
    save(options.out, {"rows": rows, "kept_bytes": kept, "load": os.getloadavg()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
