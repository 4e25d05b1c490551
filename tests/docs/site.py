"""Builds the site of the documentation, and checks it.

    python -m tests.docs.site [DIRECTORY]

The site has the paths of the repository, so that a link in a page is right on the site, on a forge
and in a clone. DIRECTORY (build/docs) gets the copied pages in `pages` and the site in `site`.
Exits with 1 after a dead link or anchor, or where a reader's browser would fetch anything from
another host.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import yaml

from tests.docs.pages import HOME, INDEX, ROOT, links, published

CONFIG: Final = ROOT / "mkdocs.yml"
# What a browser fetches to show a page; a link is followed by a person.
_FETCHED: Final = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "srcset"),
    ("link", "href"),
}
_REMOTE: Final = re.compile(r"url\([\"']?((?:https?:)?//[^\"')]*)")


class _Page(HTMLParser):
    """The ids of a page, and its references as (tag, attribute, URL)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.references: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src", "srcset") and value:
                self.references.append((tag, name, value))


def navigation(index: str) -> list[dict[str, Any]]:
    """The site's navigation from the index: a section for each heading, a page for each link.

    A page is where it comes first; links into the middle of a page are left out.
    """
    seen = {HOME, INDEX}
    sections: list[dict[str, Any]] = []
    for part in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        title = part.partition("\n")[0]
        names = [os.path.normpath(f"docs/{link}") for link in links(part) if "#" not in link]
        new = [name for name in dict.fromkeys(names) if name not in seen]
        seen.update(new)
        if new:
            sections.append({title: new})
    return [{"Home": HOME}, {"All pages": INDEX}, *sections]


def build(directory: Path) -> Path:
    """Build the site; raises subprocess.CalledProcessError where Zensical finds a fault."""
    shutil.rmtree(directory, ignore_errors=True)
    for name in published():
        copy = directory / "pages" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    config = yaml.safe_load(CONFIG.read_text())
    config |= {"docs_dir": "pages", "site_dir": "site"}
    config["nav"] = navigation((ROOT / INDEX).read_text())
    # JSON is YAML.
    (directory / "mkdocs.yml").write_text(json.dumps(config, indent=1))
    program = Path(sys.executable).with_name("zensical")
    subprocess.run([program, "build", "--strict", "--clean"], cwd=directory, check=True)
    return directory / "site"


def faults(site: Path) -> list[str]:
    """Dead links, dead anchors, and what would come from another host."""
    pages = {path: _Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        # Zensical's page for a missing path has the links of every depth at once.
        if path == site / "404.html":
            continue
        where = path.relative_to(site)
        for tag, attribute, url in page.references:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                if (tag, attribute) in _FETCHED and parts.scheme != "data":
                    found.append(f"{where}: <{tag}> would fetch {url}")
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if not file.is_file():
                found.append(f"{where}: {url} is no file of the site")
            elif parts.fragment and file.suffix == ".html":
                target = next(other for other in pages if other.resolve() == file)
                if unquote(parts.fragment) not in pages[target].ids | {"__top"}:
                    found.append(f"{where}: {url}: there is no such anchor")
    for style in sorted(site.rglob("*.css")):
        where = style.relative_to(site)
        found += [f"{where}: would fetch {url}" for url in _REMOTE.findall(style.read_text())]
    return found


def main() -> int:
    """Build into the directory that the command line names; the exit code."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "docs")
    try:
        site = build(directory)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError:
        print("the site has faults: see above", file=sys.stderr)
        return 1
    for fault in (found := faults(site)):
        print(fault, file=sys.stderr)
    print(f"{len(list(site.rglob('*.html')))} pages: {site / 'index.html'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
