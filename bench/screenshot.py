"""A picture of `energyws top`: the real screen of a real service with clients, as SVG.

    python -m bench.screenshot --out docs/operations/top.svg

Not a measurement. The SVG is self-contained: rich's template would fetch a font; this one uses the
reader's monospaced font.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console, Group
from rich.terminal_theme import SVG_EXPORT_THEME, TerminalTheme

from bench.kit.record import RealRecords
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer, writing
from energyws.control.admin.client import AdminClient
from energyws.control.status.live import WINDOW_SECONDS
from energyws.control.status.model import ServiceView, view
from energyws.control.status.screen import Picture, screen
from energyws.control.status.service import look
from energyws.control.supervisor import STEP_SECONDS
from energyws.settings import Admin

SETTLE_SECONDS: Final = 3.0
# The external references in rich's template: fonts, and rich's own page.
_OUTSIDE: Final = re.compile(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", re.DOTALL)


def svg(
    contents: Group,
    width: int,
    height: int,
    *,
    title: str,
    theme: TerminalTheme = SVG_EXPORT_THEME,
) -> str:
    """A screen of this size as self-contained SVG."""
    console = Console(
        record=True,
        width=width,
        height=height,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(contents)
    made = console.export_svg(title=title, theme=theme, unique_id=title.rpartition(" ")[2])
    return _OUTSIDE.sub("", made).replace("Fira Code", "ui-monospace")


def busy(client: AdminClient, service: MeasuredService, rate: float) -> ServiceView:
    """The view of the service at `rate` records a second."""
    writer = Writer(service.brokers, RealRecords().build)
    with writing(writer, rate):
        time.sleep(SETTLE_SECONDS)
        before = look(client)
        time.sleep(WINDOW_SECONDS)
        return view(look(client), before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=3, help="the last is added by scaling")
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--rate", type=float, default=20.0, help="records a second")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--lines", type=int, default=30)
    parser.add_argument("--out", required=True, help="write the picture here")
    options = parser.parse_args()
    limit = {"max_connections": 2 * options.clients}
    with MeasuredService(options.workers - 1, server=limit) as service:
        client = AdminClient(Admin(port=service.admin_port))
        client.post("/workers", {"workers": options.workers})
        while view(look(client)).workers_ready < options.workers:
            time.sleep(STEP_SECONDS)
        # New connections reach all workers only a moment later.
        time.sleep(2 * STEP_SECONDS)
        with service.load(options.clients):
            picture = Picture(busy(client, service, options.rate), client.where)
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    size = options.columns, options.lines
    out.write_text(svg(screen(picture, *size), *size, title="energyws top"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
