from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.control.config.yaml_tree import Fault, Mark, read, write

ANCHOR = "cannot be read: & and * make anchors in YAML: put a value that starts with one in quotes"
TAB = "a tab character: YAML is indented with spaces only"
TAG = "! makes a tag in YAML: put a value that starts with one in quotes"


def test_every_value_knows_its_line_and_how_it_was_typed() -> None:
    document = read('a:\n  b: "1"\n  c:\n    - 0x10\n    -\nd: {e: yes}\n')

    assert document.tree == {"a": {"b": "1", "c": [16, None]}, "d": {"e": True}}
    assert document.faults == []
    assert document.marks == {
        (): Mark(1, None),
        ("a",): Mark(1, None),
        ("a", "b"): Mark(2, '"1"'),
        ("a", "c"): Mark(3, None),
        ("a", "c", 0): Mark(4, "0x10"),
        ("a", "c", 1): Mark(5, ""),
        ("d",): Mark(6, None),
        ("d", "e"): Mark(6, "yes"),
    }


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n"])
def test_an_empty_document_has_no_tree_and_no_faults(text: str) -> None:
    document = read(text)

    assert (document.tree, document.faults) == (None, [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2026-01-01", "2026-01-01"),
        ("a: =", "="),
        ("a: <<", "<<"),
        ("a: !!str 5", "5"),
        ("a: null", None),
        ("a: .inf", float("inf")),
        ("a: |\n  x\n  y\n", "x\ny\n"),
    ],
)
def test_scalars_are_read(text: str, value: object) -> None:
    assert read(text).tree == {"a": value}


def test_keys_are_texts_as_typed() -> None:
    assert read("8080: a\nyes: b\n<<: c\n").tree == {"8080": "a", "yes": "b", "<<": "c"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: 2\na: 3\n", Fault((), 3, "a: stands here twice, on line 1 too: keep one")),
        (
            "a:\n  b: 1\n  b: 1\n",
            Fault((), 3, "a.b: stands here twice, on line 2 too: keep one"),
        ),
        ("? [x]\n: y\n", Fault((), 1, "a key must be a plain word")),
        ("a:\n  b: !secret x\n", Fault(("a", "b"), 2, TAG)),
        ("a: !!binary aGVsbG8=\n", Fault(("a",), 1, TAG)),
        ("a: !!python/object:os.system x\n", Fault(("a",), 1, TAG)),
        ("a: !!int x\n", Fault(("a",), 1, "cannot be read as a value: put it in quotes")),
        ("a: &b c\n", Fault((), 1, ANCHOR)),
        ("x: 1\na: *b\n", Fault((), 2, ANCHOR)),
        ("a:\n\tb: 1\n", Fault((), 2, TAB)),
        ("a:\n  b: c\n\td: e\n", Fault((), 3, TAB)),
        ("a:\t{\n", Fault((), 1, TAB)),
        (
            "a: b: c\n",
            Fault((), 1, "cannot be read: mapping values are not allowed here"),
        ),
        (
            "a: [1, 2\n",
            Fault(
                (),
                2,
                "cannot be read: while parsing a flow sequence, "
                "expected ',' or ']', but got '<stream end>'",
            ),
        ),
        ("a: 1\nb: \0\n", Fault((), 2, "cannot be read: the character U+0000")),
        (
            "a: 1\n---\nb: 2\n",
            Fault(
                (),
                2,
                "cannot be read: expected a single document in the stream, "
                "but found another document",
            ),
        ),
    ],
)
def test_faults_are_told_with_their_line(text: str, fault: Fault) -> None:
    assert read(text).faults == [fault]


def test_the_first_of_two_equal_keys_is_kept() -> None:
    assert read("a: 1\na: 2\n").tree == {"a": 1}


# PyYAML folds the line breaks that only Unicode knows, where the text is not escaped to ASCII.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029"))


def trees() -> st.SearchStrategy[Any]:
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=8,
    )
    return st.dictionaries(TEXTS, values, max_size=4)


@settings(deadline=None)
@given(trees())
def test_what_is_written_is_read_again(tree: dict[str, Any]) -> None:
    document = read(write(tree))

    assert document.faults == []
    assert document.tree == tree


@settings(deadline=None)
@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`,? \n\t0.\0"))
def test_no_text_at_all_raises(text: str) -> None:
    document = read(text)

    assert all(fault.line >= 1 and "\n" not in fault.text for fault in document.faults)
