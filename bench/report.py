"""The figures and plots of docs/performance.md, from the results in bench/results.

    python -m bench.curve --out bench/results/curve.json     one of the measurements
    python -m bench.report                                   writes the page anew
    python -m bench.report --check                           status 1 if the page is not up to date

A file is called after its bench, `curve.json`, or `curve-SOMETHING.json` where there are several.
On the page each bench has a place between two marks; what stands there is replaced. A bench
without results says so there, and how to get them.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from bench.sections import RENDERERS

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "performance.md"
RESULTS: Final = ROOT / "bench" / "results"
PLOTS: Final = ROOT / "docs" / "performance"
_PLACE: Final = re.compile(
    r"(?P<begin><!-- bench (?P<name>[a-z_]+): begin -->\n)(?P<old>.*?)"
    r"(?P<end><!-- bench (?P=name): end -->)",
    re.DOTALL,
)

Document = Mapping[str, Any]


def find(directory: Path) -> dict[str, dict[str, Document]]:
    """The results in a directory: bench, then name of the file without its ending."""
    found: dict[str, dict[str, Document]] = {}
    for path in sorted(directory.glob("*.json")):
        bench = path.stem.partition("-")[0]
        found.setdefault(bench, {})[path.stem] = orjson.loads(path.read_bytes())
    return found


def command(document: Document) -> str:
    """What was run, without where its results went."""
    program, *arguments = document["command"]
    kept = []
    words = iter(arguments)
    for word in words:
        if word in ("--out", "--plot"):
            next(words, None)
        elif not word.startswith(("--out=", "--plot=")):
            kept.append(word)
    return shlex.join(["python", "-m", f"bench.{program.removesuffix('.py')}", *kept])


def machine(document: Document) -> str:
    """On what it was measured, and when."""
    packages = ", ".join(f"{name} {version}" for name, version in document["packages"].items())
    return (
        f"{document['time'][:10]}: {document['cores']} cores, {document['cpu']}, "
        f"Linux {document['kernel']}, Python {document['python']}; {packages}."
    )


def block(bench: str, documents: Mapping[str, Document]) -> tuple[str, dict[str, str]]:
    """The Markdown of all results of one bench, and its plots by file name."""
    parts, plots = [], {}
    for stem, document in documents.items():
        section = RENDERERS[bench](document["results"])
        lines = [f"    {command(document)}\n", section.markdown]
        for name, (shows, drawing) in section.plots.items():
            file = f"{stem}.svg" if name == bench else f"{stem}-{name}.svg"
            plots[file] = drawing
            lines.append(f"![{shows}](performance/{file})\n")
        lines.append(machine(document) + "\n")
        parts.append("\n".join(lines))
    return "\n" + "\n".join(parts) + "\n", plots


def render(page: str, results: Mapping[str, Mapping[str, Document]]) -> tuple[str, dict[str, str]]:
    """The page with every place filled anew, and its plots by file name.

    Raises ValueError for results without a place on the page, and for a place of no bench.
    """
    plots: dict[str, str] = {}
    places: list[str] = []

    def fill(match: re.Match[str]) -> str:
        bench = match["name"]
        places.append(bench)
        if bench not in RENDERERS:
            raise ValueError(f"the page has a place for {bench!r}, which has no renderer")
        if bench not in results:
            how = f"python -m bench.{bench} --out bench/results/{bench}.json"
            text = f"\nNot measured yet: `{how}`.\n\n"
        else:
            text, drawn = block(bench, results[bench])
            plots.update(drawn)
        return match["begin"] + text + match["end"]

    filled = _PLACE.sub(fill, page)
    if homeless := sorted(set(results) - set(places)):
        raise ValueError(f"the page has no place for the results of {', '.join(homeless)}")
    return filled, plots


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and its plots, or say whether they are up to date; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--plots", type=Path, default=PLOTS)
    options = parser.parse_args(arguments)
    page, plots = render(options.page.read_text(), find(options.results))
    files = {options.page: page, **{options.plots / name: svg for name, svg in plots.items()}}
    stray = set(options.plots.glob("*.svg")) - set(files)
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if options.check:
        for path in sorted([*stale, *stray]):
            print(f"{path}: not what the results give: run python -m bench.report")
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
