"""The source tree keeps the rules of docs/architecture.md and CONTRIBUTING.md."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests import structure
from tests.structure import PRODUCT, ROOT

MAX_LINES = 350
MAX_FILES = 16
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "bench" / "README.md"])
# The CHANGELOG uses the file names of each release.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]


@pytest.fixture(scope="module")
def product() -> list[structure.Module]:
    return structure.modules()


def test_no_circle_of_imports(product: list[structure.Module]) -> None:
    assert structure.circles(structure.edges(product)) == []
    assert structure.circles(structure.between_packages(product)) == []


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}
    assert structure.circles(graph) == [["b", "c"], ["d"]]


def test_no_file_is_long() -> None:
    files = structure.modules(packages=(*PRODUCT, "bench"))
    assert [f"{file.path}: {file.lines}" for file in files if file.lines > MAX_LINES] == []


def test_no_package_is_crowded(product: list[structure.Module]) -> None:
    files = Counter(module.package for module in product)
    assert {package: count for package, count in files.items() if count > MAX_FILES} == {}


def test_every_module_has_a_test_of_its_own_or_a_reason(product: list[structure.Module]) -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().split("### Modules without a test", 1)[1]
    excused = re.findall(r"^\| `([^`]+\.py)` \|", section, re.MULTILINE)
    missing = [str(module.path) for module in structure.without_test(ROOT, product)]
    assert sorted(missing) == sorted(excused)


def test_every_package_is_installed() -> None:
    found = {module.package for module in structure.modules()}
    text = (ROOT / "setup.cfg").read_text()
    listed = re.search(r"^packages =\n((?:    .+\n)+)", text, re.MULTILINE)
    assert listed is not None
    assert set(listed[1].split()) == found


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:energyws|workers|tests|docs)/[\w./-]+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []
