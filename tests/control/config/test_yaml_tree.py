from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.control.config.problems import KeyPath, Problems
from energyws.control.config.yaml_tree import read, write

ANCHOR = "cannot be read: & and * make anchors in YAML: put a value that starts with one in quotes"
TAB = "a tab character: YAML is indented with spaces only"
TAG = "! makes a tag in YAML: put a value that starts with one in quotes"


def values(text: str) -> Any:
    """The values of a text that has no faults."""
    problems = Problems("c")
    tree = read(text, problems)
    assert problems.lines() == []
    return tree


def faults(text: str) -> list[str]:
    problems = Problems("c")
    read(text, problems)
    return problems.lines()


LOCATIONS: list[tuple[KeyPath, str, str | None]] = [
    ((), "c", None),
    (("a",), "c:1", None),
    (("a", "b"), "c:2", '"1"'),
    (("a", "c"), "c:3", None),
    (("a", "c", 0), "c:4", "0x10"),
    (("a", "c", 1), "c:5", ""),
    (("d",), "c:6", None),
    (("d", "e"), "c:6", "yes"),
]


def test_every_value_has_its_line_and_its_text() -> None:
    problems = Problems("c")
    tree = read('a:\n  b: "1"\n  c:\n    - 0x10\n    -\nd: {e: yes}\n', problems)

    assert tree == {"a": {"b": "1", "c": [16, None]}, "d": {"e": True}}
    assert problems.lines() == []
    for path, where, written in LOCATIONS:
        location = problems.location(path)
        assert (location.where, location.written) == (where, written)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n"])
def test_an_empty_document_has_no_values_and_no_faults(text: str) -> None:
    assert values(text) is None


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
    assert values(text) == {"a": value}


def test_keys_are_strings_as_typed() -> None:
    assert values("8080: a\nyes: b\n<<: c\n") == {"8080": "a", "yes": "b", "<<": "c"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: 2\na: 3\n", "c:3: a: duplicate key (first on line 1)"),
        ("a:\n  b: 1\n  b: 1\n", "c:3: a.b: duplicate key (first on line 2)"),
        ("? [x]\n: y\n", "c:1: a key must be a plain word"),
        ("a:\n  b: !secret x\n", f"c:2: a.b: {TAG}"),
        ("a: !!binary aGVsbG8=\n", f"c:1: a: {TAG}"),
        ("a: !!python/object:os.system x\n", f"c:1: a: {TAG}"),
        ("!x {}\n", f"c: {TAG}"),
        ("a: !!int x\n", "c:1: a: cannot be read as a value: put it in quotes"),
        ("a: &b c\n", f"c:1: {ANCHOR}"),
        ("x: 1\na: *b\n", f"c:2: {ANCHOR}"),
        ("a:\n\tb: 1\n", f"c:2: {TAB}"),
        ("a:\n  b: c\n\td: e\n", f"c:3: {TAB}"),
        ("a:\t{\n", f"c:1: {TAB}"),
        ("a: b: c\n", "c:1: cannot be read: mapping values are not allowed here"),
        (
            "a: [1, 2\n",
            "c:2: cannot be read: while parsing a flow sequence, "
            "expected ',' or ']', but got '<stream end>'",
        ),
        ("a: 1\nb: \0\n", "c:2: cannot be read: the character U+0000"),
        (
            "a: 1\n---\nb: 2\n",
            "c:2: cannot be read: expected a single document in the stream, "
            "but found another document",
        ),
    ],
)
def test_faults_have_their_line(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_the_first_of_two_equal_keys_is_kept() -> None:
    assert read("a: 1\na: 2\n", Problems("c")) == {"a": 1}


# PyYAML folds Unicode's own line breaks, unless the text is escaped to ASCII.
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
def test_written_values_are_read_back_unchanged(tree: dict[str, Any]) -> None:
    assert values(write(tree)) == tree


@settings(deadline=None)
@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`,? \n\t0.\0"))
def test_no_text_at_all_raises(text: str) -> None:
    assert all("\n" not in fault for fault in faults(text))
