"""The page without a framework in docs/clients.md works as it is, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from energyws.testing import Records, Service, eventually, token
from tests.docs.browser import opened
from tests.docs.shell import replaced
from tests.docs.snippets import snippet
from tests.web.agent import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

# Added behind the page: it tells the test what the page shows.
TELL = """<script>
const tell = () => JSON.stringify(document.body.innerText.split(/\\s+/));
setInterval(() => fetch('/seen', { method: 'POST', body: tell() }), 50);
</script>"""


def test_page_shows_the_newest_reading_and_its_state(
    serve: Callable[..., Service], records: Records, tmp_path: Path
) -> None:
    service = serve().ready()
    records.send(1, power=230)
    service.caught_up(records)
    page = snippet(test_page_shows_the_newest_reading_and_its_state)
    page = replaced(page, {"ws://localhost:8080/ws/energy": service.url}) + TELL
    (tmp_path / "index.html").write_text(page)
    shutil.copy(ROOT / "energyws" / "web" / "energyws.js", tmp_path)
    with opened(tmp_path, f"token={token()}") as shown:
        eventually(lambda: shown and shown[-1] == ["230", "W", "live"], "the reading")
        records.send(1, power=-80.5)
        eventually(lambda: shown[-1] == ["-80.5", "W", "live"], "a live reading")
