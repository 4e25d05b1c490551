from __future__ import annotations

import pytest

from bench.report.tables import figure, table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (1_234_567.8, "1,234,568"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.01234, "0.012"),
    ],
)
def test_figures_have_few_digits(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_bar_in_a_cell_is_escaped() -> None:
    assert table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n|---|---:|\n| x\\|y | 1 |\n"
