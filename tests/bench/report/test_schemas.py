from __future__ import annotations

from bench.report.schemas import schemas
from tests.bench.report.examples import RESULTS


def test_each_format_has_its_cost_and_what_it_is_more() -> None:
    text = schemas(RESULTS["schemas"]).markdown
    assert "| flat | Avro | 100 | 1,389 | 6.25 | 4.50 |" in text
    assert "| flat | JSON Schema |" in text
