"""What is read from a page of Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks, links, published, unfenced

PAGE = """\
# A [page](other.md)

<!-- not run: it is an example -->
```python
print(table[0](x))
```

1. In a list:

    ```yaml
    a: 1
    ```

````text
```
inner
```
````

![picture](b.svg) [anchor](#a-page)
<picture><source srcset="c.svg"><img alt="c" src="d.svg"></picture>
"""


def test_blocks_have_their_language_text_and_mark() -> None:
    assert blocks("a.md", PAGE) == [
        Block("a.md", 4, "python", "print(table[0](x))\n", ("not run", "it is an example")),
        Block("a.md", 10, "yaml", "a: 1\n", None),
        Block("a.md", 14, "text", "```\ninner\n```\n", None),
    ]


def test_block_without_an_end_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"a\.md:2: this block has no end"):
        blocks("a.md", "\n```js\n1\n")


def test_indented_blocks_are_found() -> None:
    text = """\
A paragraph
    that goes on.

    a block

<!-- bench x: begin -->

    written by a benchmark

<!-- bench x: end -->

* an entry

    that goes on

        with a block
"""
    assert unfenced(text) == ["a block", "with a block"]


def test_links_are_those_outside_of_code() -> None:
    assert links(PAGE) == ["other.md", "b.svg", "#a-page", "c.svg", "d.svg"]


def tree(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_md", ".md")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_published_are_all_pages_and_what_they_link_to(tmp_path: Path) -> None:
    tree(
        tmp_path,
        README_md="[a](docs/a.md#x) [far](https://example.com/)",
        docs__a_md="[config](../config/README.md)",
        docs__lonely_md="",
        config__README_md="[file](file)",
        config__file="",
        unlinked_md="",
    )
    names = {"README.md", "docs/a.md", "docs/lonely.md", "config/README.md", "config/file"}
    assert set(published(tmp_path)) == names


@pytest.mark.parametrize("link", ["none.md", "docs", "../outside.md"])
def test_link_to_no_file_of_the_project_is_an_error(tmp_path: Path, link: str) -> None:
    (tmp_path / "outside.md").write_text("")
    root = tree(tmp_path / "project", README_md=f"[a]({link})", docs__a_md="")
    with pytest.raises(ValueError, match=rf"README.md: {link} is no file of the project"):
        published(root)
