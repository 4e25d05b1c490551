from __future__ import annotations

from pathlib import Path

import orjson

from bench.report import __main__ as report
from tests.bench.report.examples import document, page


def test_command_writes_and_checks(tmp_path: Path) -> None:
    results, plots, path = tmp_path / "results", tmp_path / "plots", tmp_path / "page.md"
    results.mkdir()
    (results / "curve.json").write_bytes(orjson.dumps(document("curve")))
    path.write_text(page("curve"))
    where = [f"--page={path}", f"--results={results}", f"--plots={plots}"]
    assert report.main([*where, "--check"]) == 1
    assert report.main(where) == 0
    assert report.main([*where, "--check"]) == 0
    (plots / "stray.svg").write_text("")
    assert report.main([*where, "--check"]) == 1
    assert report.main(where) == 0
    assert sorted(file.name for file in plots.iterdir()) == ["curve.svg"]


def test_pages_in_the_repository_are_what_their_results_give() -> None:
    assert report.main(["--check"]) == 0
