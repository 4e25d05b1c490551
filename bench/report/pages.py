"""The pages and their plots, rendered from the results."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from bench.report.sections import RENDERERS
from bench.report.sizing import DERIVED, contradictions

_PLACE: Final = re.compile(
    r"(?P<begin><!-- (?P<kind>bench|figures) (?P<name>[a-z_]+): begin -->\n)(?P<old>.*?)"
    r"(?P<end><!-- (?P=kind) (?P=name): end -->)",
    re.DOTALL,
)

Document = Mapping[str, Any]


def find(directory: Path) -> dict[str, dict[str, Document]]:
    """The results in a directory, by bench and then by file name without suffix."""
    found: dict[str, dict[str, Document]] = {}
    for path in sorted(directory.glob("*.json")):
        bench = path.stem.partition("-")[0]
        found.setdefault(bench, {})[path.stem] = orjson.loads(path.read_bytes())
    return found


def command(document: Document) -> str:
    """The command that was run, without its output files."""
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
    """The date, the machine and the versions of a measurement."""
    packages = ", ".join(f"{name} {version}" for name, version in document["packages"].items())
    return (
        f"{document['time'][:10]}: {document['cores']} cores, {document['cpu']}, "
        f"Linux {document['kernel']}, Python {document['python']}; {packages}."
    )


def block(bench: str, documents: Mapping[str, Document]) -> tuple[str, dict[str, str]]:
    """The Markdown for all results of one bench, and its plots by file name."""
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
    """The pages with every place filled, and their plots by file name.

    Raises ValueError for results without a place on any page, for a place of an unknown bench, and
    if the formula for workers contradicts the trials.
    """
    plots: dict[str, str] = {}
    places: list[str] = []

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if match["kind"] == "figures":
            if name not in DERIVED:
                raise ValueError(f"a page has a place for the figures {name!r}, which are unknown")
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
    if unplaced := sorted(set(results) - set(places)):
        raise ValueError(f"no page has a place for the results of {', '.join(unplaced)}")
    return filled, plots
