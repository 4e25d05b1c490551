from __future__ import annotations

import pytest

from energyws.control.admin.exposition import exposition
from tests.control.admin.scrapes import columns, process, samples, status, value, worker


def test_both_formats_have_the_same_samples() -> None:
    shown = status(process("consumer", columns(FRAMES=4)), worker(DELIVERIES=9))
    ours = samples(shown)
    assert samples(shown, "text/plain;version=0.0.4") == ours == samples(shown, "")
    assert value(ours, "energyws_deliveries_total", worker="worker-0") == 9


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("nonsense;;q=", "text/plain"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics"),
    ],
)
def test_the_scraper_chooses_the_format(accept: str, content_type: str) -> None:
    found, data = exposition(status(), accept)
    assert found.startswith(content_type)
    assert data.endswith(b"# EOF\n") == found.startswith("application/openmetrics")
