"""The tables: which columns fit, and how their cells look."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from energyws.control.status.table import PARTITIONS, PROCESSES, Column, fitting, table

NAME: Column[str] = Column("name", 5, 0, lambda row: row, left=True)
LENGTH: Column[str] = Column(
    "len", 3, 1, lambda row: str(len(row)), style=lambda row: "red" if len(row) > 5 else ""
)


def test_cells_are_as_wide_as_their_column() -> None:
    assert table((NAME, LENGTH), ["a", "abcdef"], 80, cut=True) == [
        [("name ", "bold"), ("  len", "bold")],
        [("a    ", ""), ("    1", "")],
        [("abcd…", ""), ("    6", "red")],
    ]


def test_texts_that_are_not_cut_make_their_line_longer() -> None:
    assert table((NAME,), ["abcdef"], 80)[1] == [("abcdef", "")]


def test_columns_of_the_highest_rank_are_left_out_first() -> None:
    assert table((LENGTH, NAME), ["a"], 9)[1] == [("a    ", "")]
    assert table((LENGTH, NAME), ["a"], 10)[1] == [("  1", ""), ("  a    ", "")]


@given(st.integers(min_value=0, max_value=300))
def test_columns_fit(width: int) -> None:
    kept = fitting(PROCESSES, width)
    assert sum(column.width for column in kept) + 2 * (len(kept) - 1) <= width
    assert [each.title for each in PROCESSES if each in kept] == [each.title for each in kept]


def test_the_most_important_columns_fit_into_80_characters() -> None:
    titles = [column.title for column in fitting(PROCESSES, 80)]
    assert titles == [
        *("process", "state", "conns", "deliv/s", "CPU", "RSS", "loop", "lagging", "fan-out"),
    ]
    assert len(fitting(PARTITIONS, 80)) == len(PARTITIONS)
    assert len(fitting(PROCESSES, 160)) == len(PROCESSES)
