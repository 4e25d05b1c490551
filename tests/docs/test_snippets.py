"""Every block of code in the documentation is run by a test, or says why not."""

from __future__ import annotations

import json
import re

import pytest

from tests.docs.pages import ROOT, Block, pages, unfenced
from tests.docs.snippets import all_blocks, load_yaml, snippets

# Drawings, output and exchanges of messages.
NO_CODE = ("", "text")
DATA = {"json": json.loads, "yaml": load_yaml}
CODE = {
    *("bash", "dockerfile", "html", "http", "ini", "js", "jsx", "kotlin"),
    *("nginx", "python", "sh", "swift", "toml", "ts", "tsx"),
}
BLOCKS = [block for block in all_blocks() if block.language not in NO_CODE]


def test_pages_have_blocks() -> None:
    assert len(BLOCKS) > 20


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_block_is_run_or_says_why_not(block: Block) -> None:
    assert block.language in DATA.keys() | CODE, "an unknown language"
    if block.language in DATA:
        DATA[block.language](block.text)
    elif block.mark is None:
        pytest.fail("put <!-- run by: FILE::TEST --> or <!-- not run: REASON --> before it")
    if block.mark and block.mark[0] == "run by":
        path, _, name = block.mark[1].partition("::")
        source = (ROOT / path).read_text()
        assert f"def {name}(" in source, f"{path} has no test {name}"
        taken = re.search(rf"\bsnippets?\({name}\)", source)
        assert taken, f"{path} does not take this block with snippets({name})"


@pytest.mark.parametrize("page", pages())
def test_code_is_fenced(page: str) -> None:
    assert unfenced((ROOT / page).read_text()) == []


def test_test_without_a_block_fails() -> None:
    with pytest.raises(AssertionError, match=r"run by: tests/docs/test_snippets\.py::test_test_w"):
        snippets(test_test_without_a_block_fails)
