"""The description that setup.py makes of README.md for PyPI."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from readme_renderer import markdown

ROOT: Final = Path(__file__).parent.parent
README: Final = (ROOT / "README.md").read_text()
URL: Final = "https://forge.example/owner/energyws"


@pytest.fixture(scope="module")
def setup() -> Any:
    spec = importlib.util.spec_from_file_location("setup_of_energyws", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("readme", "with_url", "without"),
    [
        ("[a](docs/b.md#c)", f"[a]({URL}/blob/v1.2/docs/b.md#c)", "a"),
        ("![a](docs/b.svg)", f"![a]({URL}/raw/v1.2/docs/b.svg)", ""),
        ("[![a](b.png)](c.md)", f"[![a]({URL}/raw/v1.2/b.png)]({URL}/blob/v1.2/c.md)", ""),
        ("[`a`](b.md)", f"[`a`]({URL}/blob/v1.2/b.md)", "`a`"),
        ('<img src="a.png">', f'<img src="{URL}/raw/v1.2/a.png">', ""),
        ('<img alt="a" src="a.png">', f'<img alt="a" src="{URL}/raw/v1.2/a.png">', ""),
        ('<a href="a.md">', f'<a href="{URL}/blob/v1.2/a.md">', ""),
        *(
            (text, text, text)
            for text in (
                "[a](https://b.example/)",
                "[a](mailto:b@c.example)",
                "[a](#b)",
                "`[a](b)`",
                "```\n[a](b)\n```",
                '<img src="https://b.example/a.png">',
            )
        ),
    ],
)
def test_relative_links_become_absolute_or_text(
    readme: str, with_url: str, without: str, setup: Any
) -> None:
    assert setup.long_description(readme, URL, "1.2") == with_url
    assert setup.long_description(readme, "", "1.2") == without


@pytest.mark.parametrize("url", [URL, ""])
def test_readme_is_shown_by_pypi_without_a_dead_link(url: str, setup: Any) -> None:
    shown = markdown.render(setup.long_description(README, url, "1.2"))
    assert shown is not None
    # Tables and blocks of code are GitHub's Markdown, not the standard's.
    assert shown.count("<table>") == len(re.findall(r"^\|(?:-+\|)+$", README, re.MULTILINE)) > 0
    assert shown.count("<pre") == README.count("```") // 2 > 0
    targets = re.findall(r'(?:href|src)="([^"]*)"', shown)
    assert [each for each in targets if not re.match("https?://|#", each)] == []
    assert any(each.startswith(f"{URL}/blob/v1.2/docs/") for each in targets) is bool(url)


def test_addresses_of_the_project_are_under_its_repository(setup: Any) -> None:
    assert all(address.startswith(f"{URL}/") for address in setup.project_urls(URL).values())
    assert setup.project_urls("") == {}


def test_repository_is_filled_in_everywhere_or_nowhere() -> None:
    configuration = configparser.ConfigParser()
    configuration.read(ROOT / "setup.cfg")
    url = configuration["metadata"].get("url")
    assert url is None or re.fullmatch(r"https://[^/]+/[^/]+/[^/]+", url)
    python = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text())["project"]
    assert python.get("urls", {}).get("Source") == url
    npm = json.loads((ROOT / "energyws" / "web" / "package.json").read_text())
    assert npm.get("repository", {}).get("url") == (f"git+{url}.git" if url else None)
