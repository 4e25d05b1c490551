"""From a clone to a live gauge in a browser, step by step, in seconds.

    python -m bench.demo.first_gauge --cold --warm

Clones this repository into a temporary directory, runs `make demo` there, and opens the page that
it prints in a headless Chromium, which has been started before, as a user's has been. cold: pip
has nothing in its cache; warm: everything. Steps are wall time, and `cpu` is what all processes of
the step used, which says more on a busy machine; of the demo only the whole is known.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser

from bench.kit.results import arguments, collected, save
from bench.page.scene import chromium, visit

ROOT: Final = Path(__file__).parents[2]
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
        run = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)]
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
            with visit(browser) as context:
                page = context.new_page()
                page.goto(url)
                yield steps.reached("page loaded")
                page.locator(_NUMBER).first.wait_for(timeout=PATIENCE_SECONDS * 1000)
                yield steps.reached("gauge shows a number")
        yield steps.reached("ended")


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
            # make has replaced itself by the demo.
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
    parser = arguments(__doc__)
    parser.add_argument("--cold", action="store_true", help="with an empty cache of pip")
    parser.add_argument("--warm", action="store_true", help="with a cache that has everything")
    options = parser.parse_args()
    if not (options.cold or options.warm):
        parser.error("--cold, --warm or both")
    with (
        tempfile.TemporaryDirectory(prefix="first-gauge-pip-") as directory,
        chromium() as browser,
    ):
        caches = [name for name in ("cold", "warm") if getattr(options, name)]
        if not options.cold:
            # Fills the cache.
            list(measured("filling", Path(directory), browser))
        rows = [
            row for cache in caches for row in collected(measured(cache, Path(directory), browser))
        ]
    save(options.out, {"rows": rows, "load": os.getloadavg()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
