from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.process.board import Board, Field
from energyws.process.usage import (
    CELL_BITS,
    CELLS,
    MARK_BITS,
    NO_MARK,
    ROW_CELLS,
    Kind,
    Usage,
    pack,
    subject_of,
    token_of,
)

MOST = (1 << MARK_BITS) - 1
marks = st.integers(0, MOST)


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create()
    yield made
    made.close()


def usage(rows: int = 3, key: bytes = b"k") -> list[Usage]:
    """The same cells, to be written by each row."""
    shared = memoryview(bytearray(8 * ROW_CELLS * rows)).cast("q")
    return [Usage(shared, row, key, lambda: rows) for row in range(rows)]


@given(marks, marks, marks)
def test_marks_of_a_connection_fit_into_one_number(address: int, subject: int, token: int) -> None:
    packed = pack(address, subject, token)
    assert (subject_of(packed), token_of(packed)) == (subject, token)
    (one, other, _) = usage()
    one.add_connection(packed, 1)
    other.add_connection(packed, 2)
    assert one.level(Kind.ADDRESS, address) == 3
    assert one.level(Kind.SUBJECT, subject) == 3
    assert one.level(Kind.TOKEN, token) == 3
    one.add_connection(packed, -1)
    assert other.level(Kind.TOKEN, token) == 2
    assert one.level(Kind.PENDING, token) == 0


@given(st.sets(st.sampled_from([Kind.ADDRESS, Kind.SUBJECT, Kind.TOKEN])))
def test_what_has_no_mark_is_not_counted(counted: set[Kind]) -> None:
    (one, *_) = usage()
    address, subject, token = (9 if kind in counted else NO_MARK for kind in list(Kind)[:3])
    packed = pack(address, subject, token)
    assert (subject_of(packed), token_of(packed)) == (subject, token)
    assert (packed == 0) == (not counted)
    one.add_connection(packed, 1)
    assert {kind for kind in list(Kind)[:4] if one.level(kind, 9)} == counted


def test_marks_depend_on_the_key_and_are_spread_evenly() -> None:
    (one, *_), (other, *_) = usage(), usage(key=b"another")
    names = [f"192.0.2.{n}" for n in range(256)] + [f"meter-{n}" for n in range(744)]
    found = [one.mark(name) for name in names]
    assert all(0 <= mark <= MOST for mark in found)
    for cells in ([mark % CELLS for mark in found], [mark >> CELL_BITS for mark in found]):
        # Among 1,000 names, some 30 are expected to share a cell with another one.
        assert len(set(cells)) > 900
    assert not any(mark == other.mark(name) for mark, name in zip(found, names, strict=True))
    assert one.mark("\udcff") == one.mark("\udcff")


def test_only_who_shares_both_cells_is_counted_together() -> None:
    one, *_ = usage()
    one.add(Kind.SUBJECT, 5 << CELL_BITS | 7, 3)
    one.add(Kind.SUBJECT, 6 << CELL_BITS | 8, 2)
    levels = [one.level(Kind.SUBJECT, a << CELL_BITS | b) for a in (5, 6) for b in (7, 8, 9)]
    assert levels == [3, 2, 0, 2, 2, 0]


def test_few_honest_clients_are_refused_for_others() -> None:
    """As many attackers as there is room for, each with its share, and 1,000 honest newcomers."""
    one, *_ = usage()
    limit, most = 5, 10_000
    for number in range(most):
        one.add(Kind.TOKEN, one.mark(f"attacker-{number // limit}"), 1)
    honest = [one.level(Kind.TOKEN, one.mark(f"honest-{n}")) for n in range(1_000)]
    # Expected are (1 - e ** -(2,000 / CELLS)) ** 2, some 13, who share both cells at all.
    assert 0 < sum(level >= limit for level in honest) < 40


def test_levels_of_different_kinds_are_apart() -> None:
    (one, *_) = usage()
    one.add(Kind.PENDING, 5, 1)
    assert [one.level(kind, 5) for kind in Kind] == [int(kind is Kind.PENDING) for kind in Kind]


def test_amount_is_that_of_this_second_over_all_workers() -> None:
    one, other, _ = usage()
    one.spend(Kind.MESSAGES, 7, 2, 10.1)
    one.spend(Kind.MESSAGES, 7, 3, 10.9)
    other.spend(Kind.MESSAGES, 7, 4, 10.5)
    assert one.spent(Kind.MESSAGES, 7, 10.99) == 9
    other.spend(Kind.MESSAGES, 7, 1, 11.0)
    assert (one.spent(Kind.MESSAGES, 7, 11.5), one.spent(Kind.MESSAGES, 7, 12.0)) == (1, 0)


def test_amount_does_not_overflow_into_the_second() -> None:
    one, *_ = usage()
    for _ in range(3):
        one.spend(Kind.REPLAYED, 0, 2**31, 2.0**31 + 5)
    assert one.spent(Kind.REPLAYED, 0, 2.0**31 + 5.5) == 2**32 - 1


def test_workers_see_each_other_on_the_board(board: Board) -> None:
    board.open_row(0)
    board.open_row(3)
    one, other = board.usage(0), Board(os.dup(board.descriptor)).usage(3)
    mark = one.mark("192.0.2.1")
    assert other.mark("192.0.2.1") == mark
    one.add(Kind.ADDRESS, mark, 1)
    other.add(Kind.ADDRESS, mark, 2)
    assert one.level(Kind.ADDRESS, mark) == other.level(Kind.ADDRESS, mark) == 3


def test_what_a_dead_worker_counted_is_gone_once_its_row_is_cleared(board: Board) -> None:
    rows = [board.open_row(index) for index in range(3)]
    for index in range(3):
        board.usage(index).add(Kind.ADDRESS, 9, 1)
        board.usage(index).add(Kind.ADDRESS, MOST, 1)
        rows[index][Field.CONNECTIONS] = 1
    board.clear(1)
    assert [board.usage(0).level(Kind.ADDRESS, mark) for mark in (9, MOST)] == [2, 2]
    assert board.total(Field.CONNECTIONS) == 2
    # The row of its successor begins empty, too.
    board.usage(2).add(Kind.SUBJECT, 1, 5)
    board.open_row(2)
    assert board.usage(0).level(Kind.SUBJECT, 1) == 0
    assert board.usage(0).level(Kind.ADDRESS, 9) == 1


def test_boards_have_different_keys(board: Board) -> None:
    another = Board.create()
    names = [str(n) for n in range(20)]
    keys = [[each.usage(0).mark(name) for name in names] for each in (board, another)]
    another.close()
    assert keys[0] != keys[1]
