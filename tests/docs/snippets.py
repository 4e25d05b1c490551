"""The blocks of code that a test runs: those whose mark in the page names it.

    <!-- run by: tests/docs/test_python.py::test_script -->

stands on the line before such a block. `<!-- not run: REASON -->` is for one that no test can run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.docs.pages import ROOT, Block, blocks, pages


@cache
def all_blocks() -> tuple[Block, ...]:
    """Every fenced block of the documentation."""
    return tuple(block for name in pages() for block in blocks(name, (ROOT / name).read_text()))


def snippets(test: Callable[..., Any]) -> list[Block]:
    """The blocks that name this test, in the order of the page; there is at least one."""
    path = Path(test.__code__.co_filename).relative_to(ROOT)
    mark = ("run by", f"{path}::{test.__name__}")
    found = [block for block in all_blocks() if block.mark == mark]
    assert found, f"no page has a block with <!-- run by: {mark[1]} -->"
    return found


def snippet(test: Callable[..., Any]) -> str:
    """The text of the only block that names this test."""
    (block,) = snippets(test)
    return block.text


class _Loader(yaml.SafeLoader):
    """With the tag by which Home Assistant takes a value from another file."""


_Loader.add_constructor("!secret", lambda loader, node: f"secret {node.value}")


def load_yaml(text: str) -> Any:
    """The document of a block; raises yaml.YAMLError."""
    return yaml.load(text, _Loader)  # noqa: S506  # A subclass of the safe one.
