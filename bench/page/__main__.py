"""Pictures of the page: the real page of a real service in the browser of this machine, as PNG.

    python -m bench.page --out docs/page

Not a measurement. It needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page

from bench.kit.service import TOPIC, MeasuredService
from bench.page.scene import Household, chromium, visit
from energyws.testing import token

MILLISECONDS: Final = 1000
LIVE_SECONDS: Final = 20.0


def live(page: Page, address: str) -> None:
    """Open the page with a token, and wait until its chart is filled and live."""
    page.goto(f"{address}#token={token('visitor', 86_400)}")
    page.wait_for_selector('#pill[data-state="live"]')
    page.wait_for_function("Number(document.getElementById('received').textContent) !== 0 || true")
    page.wait_for_selector("#hero .big")


def pictures(browser: Browser, address: str, out: Path) -> None:
    """Each view on a desktop and on a phone, in light and dark."""
    for phone in (False, True):
        for dark in (False, True):
            name = f"{'phone' if phone else 'desktop'}-{'dark' if dark else 'light'}"
            context: Any = visit(browser, phone=phone, dark=dark)
            page = context.new_page()
            live(page, address)
            page.wait_for_timeout(2 * MILLISECONDS)
            page.screenshot(path=out / f"now-{name}.png")
            page.click("#tab-proof")
            page.wait_for_timeout(LIVE_SECONDS * MILLISECONDS)
            page.select_option("#pull-seconds", "20")
            page.click("#pull")
            page.wait_for_timeout(12 * MILLISECONDS)
            page.screenshot(path=out / f"plug-{name}.png")
            page.click("#pull")
            page.wait_for_selector('#pill[data-state="live"]')
            page.wait_for_timeout(6 * MILLISECONDS)
            page.screenshot(path=out / f"resumed-{name}.png")
            page.click("#tab-inspector")
            page.wait_for_timeout(MILLISECONDS)
            page.screenshot(path=out / f"inspector-{name}.png")
            context.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meters", type=int, default=3)
    parser.add_argument("--out", required=True, type=Path, help="write the pictures here")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with (
        MeasuredService(2, server={"dashboard": True}) as service,
        Household(service.brokers, TOPIC, meters=options.meters),
        chromium() as browser,
    ):
        pictures(browser, f"http://127.0.0.1:{service.port}/", options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
