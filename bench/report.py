"""The figures and plots of docs/performance.md, docs/operations.md and docs/sizing.md.

    python -m bench.curve --out bench/results/curve.json     one of the measurements
    python -m bench.report                                   writes the pages anew
    python -m bench.report --check                           status 1 if they are not up to date

A file is called after its bench, `curve.json`, or `curve-SOMETHING.json` where there are several.
On one of the pages each bench has a place between two marks; what stands there is replaced. A bench
without results says so there, and how to get them. Places marked `figures` have what is derived
from several benches (bench/sizing.py); where that contradicts itself, no page is written.
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
from bench.sizing import DERIVED, contradictions

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = tuple(
    ROOT / "docs" / f"{name}.md" for name in ("performance", "operations", "sizing")
)
RESULTS: Final = ROOT / "bench" / "results"
PLOTS: Final = ROOT / "docs" / "performance"
_PLACE: Final = re.compile(
    r"(?P<begin><!-- (?P<kind>bench|figures) (?P<name>[a-z_]+): begin -->\n)(?P<old>.*?)"
    r"(?P<end><!-- (?P=kind) (?P=name): end -->)",
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


def render(
    pages: Sequence[str], results: Mapping[str, Mapping[str, Document]]
) -> tuple[list[str], dict[str, str]]:
    """The pages with every place filled anew, and their plots by file name.

    Raises ValueError for results without a place on any page, for a place of no bench, and where
    the formula for workers and what was tried say different things.
    """
    plots: dict[str, str] = {}
    places: list[str] = []

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if match["kind"] == "figures":
            if name not in DERIVED:
                raise ValueError(f"a page has a place for the figures {name!r}, which nobody knows")
            return match["begin"] + f"\n{DERIVED[name](results)}\n" + match["end"]
        places.append(name)
        if name not in RENDERERS:
            raise ValueError(f"a page has a place for {name!r}, which has no renderer")
        if name not in results:
            how = f"python -m bench.{name} --out bench/results/{name}.json"
            text = f"\nNot measured yet: `{how}`.\n\n"
        else:
            text, drawn = block(name, results[name])
            plots.update(drawn)
        return match["begin"] + text + match["end"]

    if wrong := contradictions(results):
        raise ValueError("; ".join(wrong))
    filled = [_PLACE.sub(fill, page) for page in pages]
    if homeless := sorted(set(results) - set(places)):
        raise ValueError(f"no page has a place for the results of {', '.join(homeless)}")
    return filled, plots


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages and their plots, or say whether they are up to date; the exit code."""
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
