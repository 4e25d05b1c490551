"""The figures and plots of docs/performance.md, docs/operations.md and docs/sizing.md.

    python -m bench.curve --out bench/results/curve.json     one of the measurements
    python -m bench.report                                   updates the pages
    python -m bench.report --check                           status 1 if they are not up to date

A results file is named after its bench, `curve.json`, or `curve-SOMETHING.json` if there are
several. Each bench has a place between two marks on one of the pages; the text there is replaced.
Without results, the text says how to get them. Places marked `figures` are derived from several
benches (bench/report/sizing.py); if these contradict each other, no page is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.report.pages import find, render

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = tuple(
    ROOT / "docs" / f"{name}.md" for name in ("performance", "operations", "sizing")
)
RESULTS: Final = ROOT / "bench" / "results"
PLOTS: Final = ROOT / "docs" / "performance"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages and their plots, or check them; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--page", type=Path, action="append", help="default: all three pages")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--plots", type=Path, default=PLOTS)
    options = parser.parse_args(arguments)
    paths = options.page or PAGES
    pages, plots = render([path.read_text() for path in paths], find(options.results))
    files = dict(zip(paths, pages, strict=True))
    files |= {options.plots / name: svg for name, svg in plots.items()}
    stray = set(options.plots.glob("*.svg")) - set(files)
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if options.check:
        for path in sorted([*stale, *stray]):
            print(f"{path}: differs from the results: run python -m bench.report")
        return 1 if stale or stray else 0
    options.plots.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(files[path])
        print(path)
    for path in stray:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
