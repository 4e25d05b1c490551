"""The pages of the documentation: which there are, their links, and their blocks of code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
HOME: Final = "README.md"
INDEX: Final = "docs/README.md"
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)|\b(?:src|srcset|href)=\"([^\"\s]+)\"")
_FENCE: Final = re.compile(r"^( *)(```+)([\w-]*) *$")
_MARK: Final = re.compile(r"^ *<!-- (run by|not run): (.+) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of its fence, from 1; mark: `run by` or `not run`, and the rest."""

    page: str
    line: int
    language: str
    text: str
    mark: tuple[str, str] | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def links(text: str) -> list[str]:
    """The targets of a page's links and pictures, without those in code."""
    return [one or other for one, other in _LINK.findall(prose(text))]


def prose(text: str) -> str:
    """A page without its fenced blocks; the lines keep their numbers."""
    lines, end = [], ""
    for line in text.splitlines():
        found = _FENCE.match(line)
        if end or found is None:
            lines.append("" if end else line)
        if found and not end:
            end = found[2]
            lines.append("")
        elif end and line.strip() == end:
            end = ""
    return "\n".join(lines)


def blocks(page: str, text: str) -> list[Block]:
    """The fenced blocks of a page; raises ValueError for one without an end."""
    lines = text.splitlines()
    found: list[Block] = []
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence:
            indent, ticks, language = fence.groups()
            ends = (n for n in range(number + 1, len(lines)) if lines[n].strip() == ticks)
            end = next(ends, None)
            if end is None:
                raise ValueError(f"{page}:{number + 1}: this block has no end")
            body = "".join(line.removeprefix(indent) + "\n" for line in lines[number + 1 : end])
            mark = _MARK.match(lines[number - 1]) if number else None
            pair = (mark[1], mark[2]) if mark else None
            found.append(Block(page, number + 1, language, body, pair))
            number = end
        number += 1
    return found


def unfenced(text: str) -> list[str]:
    """The first lines of indented blocks, except in the parts that a benchmark has written.

    In a list, four spaces are the list's own text, and eight are a block.
    """
    found, generated, listed, blank = [], False, False, True
    for line in prose(text).splitlines():
        generated = "begin -->" in line or (generated and "end -->" not in line)
        if not generated:
            if blank and line.startswith(" " * (8 if listed else 4)):
                found.append(line.strip())
            if re.match(r"([*-]|[0-9]+\.) ", line):
                listed = True
            elif line and not line.startswith(" "):
                listed = False
        blank = not line
    return found


def pages(root: Path = ROOT) -> list[str]:
    """The project's README, and all of docs/."""
    return [HOME, *sorted(str(each.relative_to(root)) for each in root.glob("docs/**/*.md"))]


def published(root: Path = ROOT) -> list[str]:
    """The files of the site: all pages, and every file that one of them links to.

    Raises ValueError for a link that leads nowhere, out of the project, or to a directory: a site
    has no page for it.
    """
    waiting = pages(root)
    found: dict[str, None] = {}
    while waiting:
        name = waiting.pop(0)
        if name in found:
            continue
        found[name] = None
        if not name.endswith(".md"):
            continue
        page = root / name
        for target in links(page.read_text()):
            path = target.partition("#")[0]
            if not path or "://" in target or target.startswith("mailto:"):
                continue
            file = (page.parent / path).resolve()
            if not (file.is_file() and file.is_relative_to(root.resolve())):
                raise ValueError(f"{name}: {target} is no file of the project")
            waiting.append(str(file.relative_to(root.resolve())))
    return list(found)
