from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.process.board import COLUMNS, MAX_ISSUERS, ROWS, Board, Field, State, issuer_id

fields = st.sampled_from(Field)
cells = st.tuples(st.integers(0, ROWS - 1), fields)
numbers = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create()
    yield board
    board.close()


def test_new_board_is_empty(board: Board) -> None:
    empty = {field.name.lower(): 0 for field in Field}

    assert all(board.row(index).snapshot() == empty for index in range(ROWS))
    assert board.row(0)[Field.STATE] == State.EMPTY


def test_columns_are_distinct_and_within_a_row() -> None:
    assert len(set(Field)) == len(Field.__members__)
    assert all(0 <= field < COLUMNS for field in Field)


@given(st.dictionaries(cells, numbers, max_size=20))
def test_every_cell_keeps_its_own_number(written: dict[tuple[int, Field], int]) -> None:
    board = Board.create()
    try:
        for (index, field), value in written.items():
            board.row(index)[field] = value
        for index in {index for index, _ in written}:
            row = board.row(index)
            expected = {field.name.lower(): written.get((index, field), 0) for field in Field}
            assert row.snapshot() == expected
            assert all(row[field] == written.get((index, field), 0) for field in Field)
        for field in Field:
            assert board.total(field) == sum(v for (_, f), v in written.items() if f is field)
    finally:
        board.close()


def test_add_adds_to_a_cell(board: Board) -> None:
    row = board.row(3)
    row.add(Field.CONNECTIONS)
    row.add(Field.CONNECTIONS, 5)
    row.add(Field.CONNECTIONS, -2)

    assert row[Field.CONNECTIONS] == 4


def test_cleared_row_is_empty_and_its_neighbours_are_not(board: Board) -> None:
    for index in (6, 7, 8):
        for field in Field:
            board.row(index)[field] = index
    board.row(7).clear()

    assert set(board.row(6).snapshot().values()) == {6}
    assert set(board.row(7).snapshot().values()) == {0}
    assert set(board.row(8).snapshot().values()) == {8}


def test_issuers_are_written_and_cleared(board: Board) -> None:
    one, other = issuer_id("https://one.example"), issuer_id("https://other.example")
    row = Board(os.dup(board.descriptor)).row(3)
    row.set_issuers([(one, 5), (other, 0)])
    board.row(ROWS - 1).set_issuers([(one, 7)])

    assert board.row(3).issuers() == {one: 5, other: 0}
    row.set_issuers([(other, 6)])
    assert board.row(3).issuers() == {other: 6}
    row.clear()
    assert (board.row(3).issuers(), board.row(ROWS - 1).issuers()) == ({}, {one: 7})
    # The neighbouring rows in memory.
    assert board.row(2).issuers() == board.row(4).issuers() == {}


def test_only_the_first_of_too_many_issuers_are_written(board: Board) -> None:
    many = [(issuer_id(f"{n}"), n) for n in range(MAX_ISSUERS + 5)]
    board.row(ROWS - 1).set_issuers(many)

    assert board.row(ROWS - 1).issuers() == dict(many[:MAX_ISSUERS])


def test_last_row_is_counted(board: Board) -> None:
    board.row(ROWS - 1)[Field.CONNECTIONS] = 1
    board.row(0)[Field.CONNECTIONS] = 2

    assert board.total(Field.CONNECTIONS) == 3


def test_one_mapping_reads_what_another_wrote(board: Board) -> None:
    inherited = Board(os.dup(board.descriptor))
    row = inherited.row(2)
    row[Field.BEAT] = 41
    row.add(Field.BEAT)

    assert board.row(2)[Field.BEAT] == 42
    assert board.total(Field.BEAT) == 42
    inherited.close()
    assert board.row(2)[Field.BEAT] == 42


def test_descriptor_is_not_inherited_by_default(board: Board) -> None:
    assert not os.get_inheritable(board.descriptor)


def test_closing_the_board_closes_its_descriptor_although_rows_are_held() -> None:
    board = Board.create()
    row = board.row(0)
    row[Field.BEAT] = 1
    board.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(board.descriptor)
    with pytest.raises(ValueError, match="released"):
        board.total(Field.BEAT)
    assert row[Field.BEAT] == 1


def test_descriptor_of_a_forgotten_board_is_closed() -> None:
    board = Board.create()
    row, descriptor = board.row(0), board.descriptor
    del board

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    row[Field.BEAT] = 1


def test_number_that_does_not_fit_is_refused(board: Board) -> None:
    with pytest.raises(ValueError, match="format 'q'"):
        board.row(0)[Field.BYTES] = 2**63
