"""Pages like the published gauge, which show an error card at any `error`.

    REDPANDA_BROKERS=HOST:PORT python -m tests.gauge [--restarts 6] [--gauges 4]

restarts the service N times, rolls and reloads it each time, shows its readings on some gauges, and
prints the number of error cards; status 1 if there are any. Without REDPANDA_BROKERS the broker
is the embedded one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from energyws.testing import (
    PATIENCE_SECONDS,
    Broker,
    Records,
    Service,
    Traffic,
    any_broker,
    config,
    eventually,
    token,
)

# The requests of a page have an origin, so a refusal is a message.
_ORIGIN: Final = "https://dashboard.example"
_RECEIVE_SECONDS: Final = 0.1


class Gauge:
    """One page, until the block ends: it subscribes when it connects, and always reconnects.

    opens: its connections so far; readings: the values that it has shown; cards: the time (seconds
    since the epoch) and the message of every error card; seen: the types and codes of all messages;
    closes: the code of every close frame. small: its socket's buffer is small, and nothing is
    compressed.
    """

    def __init__(
        self, url: str, bearer: str, *, reconnect_seconds: float = 0.2, small: bool = False
    ) -> None:
        self._url = f"{url}?token={bearer}"
        self._reconnect_seconds = reconnect_seconds
        self._small = small
        self._ended = threading.Event()
        self._reads = threading.Event()
        self._reads.set()
        self._thread = threading.Thread(target=self._run)
        self.opens = 0
        self.readings: list[float] = []
        self.cards: list[tuple[float, str]] = []
        self.seen: set[tuple[str, str | None]] = set()
        self.closes: list[int] = []
        self.card: str | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._reads.set()
        self._ended.set()
        self._thread.join(PATIENCE_SECONDS)

    def stop_reading(self) -> None:
        """Leave messages in the socket."""
        self._reads.clear()

    def read_on(self) -> None:
        """End `stop_reading`."""
        self._reads.set()

    def subscribed(self) -> Self:
        """Wait for the answer to its subscription."""
        eventually(lambda: ("subscribed", None) in self.seen, "the gauge has subscribed")
        return self

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                self._connect()
            self._ended.wait(self._reconnect_seconds)

    def _connect(self) -> None:
        place = urlsplit(self._url)
        with socket.socket() as plain:
            if self._small:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            plain.connect((place.hostname, place.port))
            self._converse(plain)

    def _converse(self, plain: socket.socket) -> None:
        with connect(
            self._url,
            sock=plain,
            additional_headers={"Origin": _ORIGIN},
            compression=None if self._small else "deflate",
            max_queue=4,
            ping_interval=None,
            close_timeout=0.5,
        ) as connection:
            self.opens += 1
            self.card = None
            connection.send('{"type":"subscribe","streams":["energy"]}')
            try:
                while not self._ended.is_set():
                    self._read(connection)
            finally:
                if (close := connection.protocol.close_rcvd) is not None:
                    self.closes.append(close.code)

    def _read(self, connection: ClientConnection) -> None:
        self._reads.wait()
        with contextlib.suppress(TimeoutError):
            self._on_message(orjson.loads(connection.recv(timeout=_RECEIVE_SECONDS)))

    def _on_message(self, message: dict[str, Any]) -> None:
        self.seen.add((message["type"], message.get("code")))
        match message["type"]:
            case "data":
                data = message["data"]
                consumption = data.get("activeActualConsumption")
                value = consumption["total"] if consumption else data["fields"][_TOTAL]
                self.readings.append(value)
            case "error":
                self.card = message["message"]
                self.cards.append((time.time(), self.card))


_TOTAL: Final = "active_power_total"


class Meter:
    """Writes readings that gauges show, each with a different value."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.records = Records(broker.bootstrap, topic)

    def more(self) -> float:
        """Write another reading; its value."""
        value = float(self.records.sent)
        self.records.send(1, fields={_TOTAL: value})
        return value


def run_through_restarts(
    broker: Broker, topic: str, directory: Path, restarts: int, gauges: int
) -> list[Gauge]:
    """Run gauges while the service is reloaded, rolled and restarted `restarts` times."""
    settings = config(
        broker.bootstrap,
        topic,
        server={"drain_seconds": 1},
        # Every connection gets TOKEN_EXPIRING immediately.
        auth={"leeway_seconds": 0, "expiry_notice_seconds": 7200},
    )
    meter = Meter(broker, topic)
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(Service(directory / "service-0", settings))
        settings["server"]["port"] = service.port
        bearer = token(seconds=3600)
        pages = [stack.enter_context(Gauge(service.url, bearer)) for _ in range(gauges)]
        for number in range(1, restarts + 1):
            _operate(service.ready(), pages, meter)
            assert service.stop() == 0
            service = stack.enter_context(Service(directory / f"service-{number}", settings))
        _operate(service.ready(), pages, meter)
        return pages


def _operate(service: Service, pages: list[Gauge], meter: Meter) -> None:
    """Reload and roll a service; every page shows readings before, during and after it."""
    all_show(pages, meter)
    service.signal(signal.SIGHUP)
    service.wait_logged("reloaded")
    with Traffic(meter.records, fields={_TOTAL: 0.5}) as traffic:
        service.signal(signal.SIGUSR2)
        for name in ("consumer", "worker-0", "worker-1"):
            service.wait_logged("child replaced", f"child={name}")
        traffic.more(20)
    all_show(pages, meter)


def all_show(pages: list[Gauge], meter: Meter) -> None:
    """Write readings until every page has shown one: a page may be about to reconnect."""
    before = [len(page.readings) for page in pages]

    def shown() -> bool:
        meter.more()
        return all(len(page.readings) > count for page, count in zip(pages, before, strict=True))

    eventually(shown, "every gauge shows a reading")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gauge")
    parser.add_argument("--restarts", type=int, default=6, metavar="N")
    parser.add_argument("--gauges", type=int, default=4, metavar="N")
    options = parser.parse_args(arguments)
    topic = f"gauge-{os.getpid()}"
    with any_broker() as broker, tempfile.TemporaryDirectory() as directory:
        broker.create_topic(topic)
        pages = run_through_restarts(
            broker, topic, Path(directory), options.restarts, options.gauges
        )
    cards = [text for page in pages for _, text in page.cards]
    print(f"restarts: {options.restarts}")
    print(f"gauges: {len(pages)}, connections: {sum(page.opens for page in pages)}")
    print(f"readings shown: {sum(len(page.readings) for page in pages)}")
    kinds = sorted({f"{kind} {code or ''}".strip() for page in pages for kind, code in page.seen})
    print(f"messages: {', '.join(kinds)}")
    print(f"error cards: {len(cards)}")
    for text in sorted(set(cards)):
        print(f"  {cards.count(text)} x {text}")
    return 1 if cards else 0


if __name__ == "__main__":
    sys.exit(main())
