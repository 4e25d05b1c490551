"""Pictures of the page: the real page of a real service in the browser of this machine, as PNG.

    python -m tests.dashboard.pictures

makes those in docs/page. It takes two minutes, and needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page

from energyws.testing import PARTITIONS, BrokerProcess, Service, config, token
from tests.dashboard.scene import Household, chromium, visit
from tests.web.agent import ROOT

TOPIC: Final = "readings"
_SECOND: Final = 1000


def pictures(browser: Browser, address: str, out: Path) -> None:
    """On a desktop and a phone, in light and dark: the hour, and the plug just pulled."""
    for phone in (False, True):
        for dark in (False, True):
            name = f"{'phone' if phone else 'desktop'}-{'dark' if dark else 'light'}"
            context = visit(browser, phone=phone, dark=dark)
            page = context.new_page()
            page.goto(f"{address}#token={token('visitor', 86_400)}")
            page.wait_for_selector("#pill[data-state=live]")
            page.wait_for_timeout(3 * _SECOND)
            page.screenshot(path=out / f"now-{name}.png")
            _pull(page, out, name)
            if not phone:
                page.click("#tab-inspector")
                page.wait_for_timeout(_SECOND)
                page.screenshot(path=out / f"inspector-{name}.png")
            context.close()


def _pull(page: Page, out: Path, name: str) -> None:
    page.click("#tab-proof")
    page.select_option("#pull-seconds", "20")
    page.click("#pull")
    page.wait_for_timeout(14 * _SECOND)
    page.screenshot(path=out / f"plug-{name}.png")
    page.click("#pull")
    page.wait_for_selector("#pill[data-state=live]")
    page.wait_for_timeout(5 * _SECOND)
    page.screenshot(path=out / f"resumed-{name}.png")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meters", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "page")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        BrokerProcess({TOPIC: PARTITIONS}) as broker,
        Household(broker.bootstrap, TOPIC, meters=options.meters) as household,
        Service(
            Path(directory), config(broker.bootstrap, household.topic, server={"dashboard": True})
        ) as service,
        chromium() as browser,
    ):
        service.ready()
        pictures(browser, f"http://127.0.0.1:{service.port}/", options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
