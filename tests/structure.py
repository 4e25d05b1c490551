"""Figures of the source tree: files, lines, imports between packages, modules without a test.

    python -m tests.structure [TREE]

TREE is another checkout, to compare with. tests/test_structure.py checks this tree's limits.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PRODUCT: Final = ("energyws", "workers")
# Modules without code that a test could call.
_UNMIRRORED: Final = ("__init__", "__main__")


@dataclass(frozen=True)
class Module:
    """One file. path: relative to the tree's root; name: as other modules import it."""

    path: Path
    source: str

    @property
    def name(self) -> str:
        return ".".join(self.path.with_suffix("").parts).removesuffix(".__init__")

    @property
    def package(self) -> str:
        return ".".join(self.path.parent.parts)

    @property
    def lines(self) -> int:
        return len(self.source.splitlines())

    @property
    def test(self) -> Path:
        """The path that the test of this module should have."""
        parts = [part for part in self.path.parts[:-1] if part != "energyws"]
        return Path("tests", *parts, f"test_{self.path.name}")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    def imports(self, known: Container[str]) -> set[str]:
        """The known modules that this module imports, also those for types only."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                source = self._source_of(node)
                for alias in node.names:
                    module = f"{source}.{alias.name}"
                    found.add(module if module in known else source)
        return {name for name in found if name in known} - {self.name}

    def _source_of(self, node: ast.ImportFrom) -> str:
        """The absolute name of what a `from` imports from."""
        parts = self.package.split(".")[: 1 - node.level or None] if node.level else []
        return ".".join([*parts, *([node.module] if node.module else [])])

    def docstring_lines(self) -> int:
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        return sum(
            len((ast.get_docstring(node, clean=False) or "").splitlines())
            for node in ast.walk(self.tree)
            if isinstance(node, documented)
        )

    def comments(self) -> int:
        tokens = tokenize.generate_tokens(io.StringIO(self.source).readline)
        return sum(token.type == tokenize.COMMENT for token in tokens)


def modules(root: Path = ROOT, packages: Iterable[str] = PRODUCT) -> list[Module]:
    """The modules of these top-level packages, in the order of their paths."""
    return [
        Module(path.relative_to(root), path.read_text())
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    ]


def edges(found: Iterable[Module]) -> dict[str, set[str]]:
    """The modules that each module imports."""
    by_name = {module.name: module for module in found}
    return {name: module.imports(by_name) for name, module in by_name.items()}


def between_packages(found: Iterable[Module]) -> dict[str, set[str]]:
    """The packages that each package imports. A module beside packages counts as a package."""
    found = list(found)
    rooms = {module.name: module.package for module in found}
    holds_packages = {module.package.rpartition(".")[0] for module in found}
    rooms |= {name: name for name, package in rooms.items() if package in holds_packages}
    result: dict[str, set[str]] = defaultdict(set)
    for name, imported in edges(found).items():
        result[rooms[name]] |= {rooms[each] for each in imported} - {rooms[name]}
    return result


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The sets of nodes that can reach each other."""
    reach = {node: _reachable(graph, node) for node in graph}
    groups = {
        tuple(sorted(other for other in reach[node] if node in reach.get(other, ())))
        for node in graph
        if node in reach[node]
    }
    return [list(group) for group in sorted(groups)]


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph.get(start, ()))
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += graph.get(node, ())
    return seen


def without_test(root: Path, found: Iterable[Module]) -> list[Module]:
    """The modules without a test module of their own."""
    return [
        module
        for module in found
        if module.path.stem not in _UNMIRRORED and not (root / module.test).exists()
    ]


def main(arguments: list[str]) -> None:
    """Print the figures of the given tree, or of this one."""
    root = Path(arguments[0]) if arguments else ROOT
    product = modules(root)
    files = Counter(module.package for module in product)
    lines: Counter[str] = Counter()
    for module in product:
        lines[module.package] += module.lines
    print(f"{'package':34} files  lines")
    for package in sorted(files):
        print(f"{package:34} {files[package]:5} {lines[package]:6,}")
    total = sum(lines.values())
    print(f"{'product':34} {len(product):5} {total:6,}")
    for other in ("bench", "tests"):
        those = modules(root, (other,))
        print(f"{other:34} {len(those):5} {sum(module.lines for module in those):6,}")
    longest = sorted(product, key=lambda module: -module.lines)[:10]
    print("longest:", ", ".join(f"{module.path} {module.lines}" for module in longest))
    print("over 350 lines:", sum(module.lines > 350 for module in product))
    print(f"docstrings: {sum(module.docstring_lines() for module in product) / total:.1%}")
    print(f"comments: {sum(module.comments() for module in product) / total:.1%}")
    graph = edges(product)
    print("imports between modules:", sum(map(len, graph.values())))
    rooms = between_packages(product)
    print("imports between packages:", sum(map(len, rooms.values())))
    print("circles of modules:", circles(graph) or "none")
    print("circles of packages:", circles(rooms) or "none")
    missing = without_test(root, product)
    print(f"modules without a test of their own: {len(missing)} of {len(product)}")
    for module in missing:
        print(f"  {module.path} {module.lines}")


if __name__ == "__main__":
    main(sys.argv[1:])
