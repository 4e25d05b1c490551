"""A service with a broker, records, and good and bad clients, scraped by a Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import ssl
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import yaml

from energyws.client import Client, Refused
from energyws.testing import Records, Service, Traffic, any_broker, config, eventually
from energyws.testing.certificates import write_pair
from energyws.testing.issuer import Issuer
from tests.deploy.files import ALERTS, CONFIG, document
from tests.deploy.tools import tool

TOPIC: Final = "dashboard"
CLIENTS: Final = 20
# The values of the dashboard's variables.
_VARIABLES: Final = {"$instance": ".*", "$__rate_interval": "10s"}
INSTANCE: Final = "replica-1"
_BETWEEN_SECONDS: Final = 0.5


class Prometheus:
    """A real Prometheus with the rules and jobs of config/; it scrapes every second."""

    def __init__(self, directory: Path, admin_port: int) -> None:
        directory.mkdir()
        path = directory / "prometheus.yaml"
        path.write_text(yaml.safe_dump(_scrape(admin_port)))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._log = (directory / "log").open("w+")
        self._process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={path}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={urllib.parse.urlsplit(self.url).netloc}",
            ],
            stderr=self._log,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        eventually(self._is_ready, "Prometheus is ready")
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            self._log.seek(0)
            raise AssertionError(f"Prometheus has ended:\n{self._log.read()}")
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _get(self, path: str, **parameters: object) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            body = json.load(answer)
        assert body["status"] == "success", body
        return body["data"]

    def query(self, query: str) -> list[dict[str, Any]]:
        """The series that a query returns now; each has `metric` (labels) and `value`."""
        found: list[dict[str, Any]] = self._get("query", query=plain(query))["result"]
        return found

    def between(self, query: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """The series that a query returns from `start` to `end`; each has `metric` and `values`."""
        found: list[dict[str, Any]] = self._get(
            "query_range", query=plain(query), start=start, end=end, step=step
        )["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """The alerting rules, with their health and state."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]


def plain(query: str) -> str:
    """A query as Grafana would send it."""
    for name, value in _VARIABLES.items():
        query = query.replace(name, value)
    return query


def _scrape(admin_port: int) -> Any:
    settings = document(CONFIG / "prometheus" / "prometheus.yaml")
    settings["global"] = dict.fromkeys(settings["global"], "1s")
    settings["rule_files"] = [str(ALERTS)]
    (job,) = settings["scrape_configs"]
    job["scrape_timeout"] = "1s"
    job["static_configs"] = [
        {"targets": [f"127.0.0.1:{admin_port}"], "labels": {"instance": INSTANCE}}
    ]
    return settings


class Crowd:
    """Clients that stay, one too many, one that comes and goes, and one with a bad token."""

    def __init__(self, url: str, issuer: Issuer, context: ssl.SSLContext) -> None:
        self._url = url
        self._issuer = issuer
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._all.cancel)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._run_clients())

    async def _run_clients(self) -> None:
        self._all = asyncio.gather(
            *(self._stay() for _ in range(CLIENTS)),
            self._be_too_many(),
            self._come_and_go(),
            self._try_bad_token(),
        )
        await self._all

    async def _stay(self) -> None:
        client = Client(self._url, token=self._issuer.token(), ssl_context=self._context)
        async with contextlib.aclosing(client.messages()) as messages:
            async for _ in messages:
                pass

    async def _be_too_many(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BETWEEN_SECONDS):
                    await self._stay()

    async def _come_and_go(self) -> None:
        positions: dict[str, str] = {}
        while True:
            client = Client(
                self._url,
                token=self._issuer.token(sub="visitor"),
                resume=positions,
                ssl_context=self._context,
            )
            async with contextlib.aclosing(client.messages()) as messages:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_BETWEEN_SECONDS):
                        async for _ in messages:
                            pass
            positions = client.positions
            await asyncio.sleep(_BETWEEN_SECONDS)

    async def _try_bad_token(self) -> None:
        while True:
            client = Client(self._url, token="no.token.atall", ssl_context=self._context)
            with contextlib.suppress(Refused):
                async with contextlib.aclosing(client.messages()) as messages:
                    await anext(messages)
            await asyncio.sleep(_BETWEEN_SECONDS)


@contextmanager
def running(directory: Path) -> Iterator[tuple[Service, Prometheus]]:
    """Run everything until the block ends; the service has been reloaded, and has lost a worker."""
    with ExitStack() as stack:
        broker = stack.enter_context(any_broker())
        broker.create_topic(TOPIC)
        issuer = stack.enter_context(Issuer("home", "ES256"))
        trusted = {"name": issuer.kid, "issuer": issuer.name, "jwks_url": issuer.url}
        directory.mkdir(exist_ok=True)
        pair = write_pair(directory, 90)
        settings = config(
            broker.bootstrap,
            TOPIC,
            auth={"issuers": [trusted]},
            server={"tls": pair},
            limits={"connections_per_subject": CLIENTS},
            streams={"energy": {"topic": TOPIC, "key": "/n", "snapshot": {"enabled": True}}},
        )
        service = stack.enter_context(Service(directory / "service", settings)).ready()
        records = Records(broker.bootstrap, TOPIC)
        prometheus = stack.enter_context(Prometheus(directory / "prometheus", service.admin_port))
        stack.enter_context(Traffic(records))
        context = ssl.create_default_context(cafile=pair["cert"])
        stack.enter_context(Crowd(service.url, issuer, context))
        up = "sum(energyws_connections) >= 20"
        eventually(lambda: prometheus.query(up), "all clients are connected")
        service.signal(signal.SIGHUP)
        service.wait_logged("reloaded")
        service.children()["worker-1"].kill()
        service.wait_logged("child started", "child=worker-1", "restarts=1")
        yield service, prometheus


def line_name(legend: str, labels: dict[str, str]) -> str:
    """The name that Grafana gives a line."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)
