"""A few inputs for each target of the fuzzer, and what it does with a fault."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.fuzz import pieces, targets
from bench.fuzz.oracle import EXPLAINED
from bench.fuzz.pieces import INPUTS, JAVASCRIPT, STREAMS, Piece, escaped, inputs, kept, run

FEW = dict.fromkeys(INPUTS, 300) | {STREAMS: 500, "configuration": 40}


@pytest.fixture(autouse=True)
def logs_again() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("target", FEW)
def test_no_input_crashes(target: str) -> None:
    if target == JAVASCRIPT and not shutil.which("node") and "CI" not in os.environ:
        pytest.skip("needs node")
    result = run(Piece(target, 1, 0, FEW[target]))
    assert result["crashes"] == []
    assert sum(result["outcomes"].values()) == FEW[target]


def test_streams_differ_for_known_reasons_only() -> None:
    outcomes = run(Piece(STREAMS, 2, 0, 500))["outcomes"]
    assert outcomes.pop("same") > 400
    assert set(outcomes) <= set(EXPLAINED)


def test_corpus_reaches_what_is_good() -> None:
    for name, good in {
        "http": "taken",
        "message": "Subscribe",
        "position": "accepted",
        "record": "accepted",
        "compressed": "accepted",
        "token": "fuzz",
        "bus": "accepted",
        "proxy": "accepted",
        "forwarded": "Forwarded",
        "denied": "some entries, none refused",
        "configuration": "accepted",
        "avro": "accepted",
        "avro_schema": "undecodable",
        "protobuf": "accepted",
        "answer": "accepted",
    }.items():
        target, _ = targets.TARGETS[name]
        assert good in {target(data) for data in inputs(name)}, name


def test_equal_seeds_make_equal_inputs() -> None:
    first, same, other = (run(Piece("message", seed, 0, 200)) for seed in (1, 1, 2))
    assert first["outcomes"] == same["outcomes"] != other["outcomes"]


def test_fault_is_reported_with_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> str:
        if b"\xff" in data:
            raise IndexError("broken on purpose")
        return "fine"

    monkeypatch.setitem(targets.TARGETS, "message", (broken, 1))
    result = run(Piece("message", 1, 0, 2_000))
    assert 0 < len(result["crashes"]) <= pieces.MOST_CRASHES
    crash = result["crashes"][0]
    assert crash["error"] == "IndexError('broken on purpose')"
    assert b"\xff" in crash["input"].encode().decode("unicode_escape").encode("latin-1")
    assert result["outcomes"]["CRASH"] + result["outcomes"]["fine"] == 2_000


def test_piece_that_is_there_is_not_run_again(tmp_path: Path) -> None:
    piece = Piece("position", 1, 0, 50)
    first = kept(tmp_path, piece)
    (file,) = tmp_path.iterdir()
    assert file.name == "position-1-0-50.json"
    file.write_text(file.read_text().replace('"seed": 1', '"seed": 77'))
    assert kept(tmp_path, piece) == {**first, "seed": 77}


def test_escaped_input_is_a_line_of_the_corpus() -> None:
    every = bytes(range(256))
    text = escaped(every)
    assert text.isascii()
    assert text.encode().decode("unicode_escape").encode("latin-1") == every
