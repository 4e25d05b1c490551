from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.control.config.interpolate import escape, interpolate

ENV = {"A": "1", "HOST_2": "h", "EMPTY": "", "NESTED": "$(A) $$(A)"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$(A)", "1"),
        ("x-$(A).$(HOST_2)-$(A)", "x-1.h-1"),
        ("$$(A)", "$(A)"),
        ("$$(", "$("),
        ("$A ${A} $ $$ ()", "$A ${A} $ $$ ()"),
        ("$(NESTED)", "$(A) $$(A)"),
    ],
)
def test_variables_are_filled_in_once(text: str, expected: str) -> None:
    assert interpolate(text, ENV) == (expected, [])


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (
            "$(NO)",
            [
                "the environment variable NO is not set: give it a value, as in `export NO=…`, "
                "or write $$(NO) for the text itself"
            ],
        ),
        (
            "$(EMPTY)",
            [
                "the environment variable EMPTY is empty: give it a value, as in "
                "`export EMPTY=…`, or write $$(EMPTY) for the text itself"
            ],
        ),
        *[
            (text, ["$( begins a variable: write $(NAME), or $$( for a literal $("])
            for text in ("$()", "$(", "$(a b)", "$(A", "$(1)", "$(A-B)")
        ],
    ],
)
def test_variable_without_a_value_is_reported(text: str, faults: list[str]) -> None:
    assert interpolate(text, ENV)[1] == faults


def test_every_missing_variable_is_reported() -> None:
    _, faults = interpolate("$(B) $(A) $(C)", ENV)

    assert [fault.split()[3] for fault in faults] == ["B", "C"]


@given(st.text() | st.text(alphabet="$()A"))
def test_an_escaped_text_is_unchanged(text: str) -> None:
    assert interpolate(escape(text), ENV) == (text, [])
