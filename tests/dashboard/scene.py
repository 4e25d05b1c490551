"""What the page is looked at with: a household's last hour in the topic, and a browser."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self

from confluent_kafka import Producer
from playwright.sync_api import Browser, sync_playwright

from energyws.demo.meter import Meter
from energyws.testing import PATIENCE_SECONDS

HOUR_SECONDS: Final = 3600
_NANOSECONDS: Final = 1_000_000_000
# The browser connects to nothing but this machine; the timers of hidden pages keep their pace.
_OPTIONS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Household:
    """Simulated meters whose readings of the last hour are in the topic; more come in the block.

    reach: how far back the readings go, in seconds. past, interval: the seconds between two
    readings of a meter, in the past and from now on.
    written: the number of readings so far.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        meters: int = 3,
        reach: float = HOUR_SECONDS,
        past: float = 1.0,
        interval: float = 1.0,
    ) -> None:
        self.topic = topic
        self._interval = interval
        self.meters = [Meter(1000 + number) for number in range(meters)]
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
        self.written = 0
        self._stop = threading.Event()
        self._writes = threading.Lock()
        self._thread = threading.Thread(target=self._run)
        now = time.time_ns()
        for step in range(int(reach / past), 0, -1):
            self._write(self.meters, now - int(step * past * _NANOSECONDS))
        self._flush()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)
        self._flush()

    @contextmanager
    def quiet(self) -> Iterator[int]:
        """No reading comes within the block; gives `written`."""
        with self._writes:
            self._flush()
            yield self.written

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            with self._writes:
                self._write(self.meters, time.time_ns())

    def _write(self, meters: Sequence[Meter], now_ns: int) -> None:
        for number, meter in enumerate(meters):
            self._producer.produce(
                self.topic,
                meter.record(now_ns),
                partition=number % 3,
                timestamp=now_ns // 1_000_000,
            )
            self.written += 1
        self._producer.poll(0)

    def _flush(self) -> None:
        left = self._producer.flush(PATIENCE_SECONDS)
        assert left == 0, f"{left} records were not acknowledged"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine; raises FileNotFoundError where there is none."""
    executable = shutil.which("chromium")
    if executable is None:
        raise FileNotFoundError("chromium is not installed (Debian: chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_OPTIONS))
        try:
            yield browser
        finally:
            browser.close()


def visit(browser: Browser, *, phone: bool = False, dark: bool = False, **options: Any) -> Any:
    """A fresh context of the browser: a desktop or a phone, in light or dark."""
    size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 800}
    scheme: Any = "dark" if dark else "light"
    return browser.new_context(
        viewport=size,  # type: ignore[arg-type]
        device_scale_factor=2 if phone else 1,
        color_scheme=scheme,
        **options,
    )
