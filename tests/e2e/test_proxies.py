"""The files of config/proxies in front of two replicas; only addresses, ports and times differ."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from energyws.testing import PATIENCE_SECONDS, Records, Service, eventually, token
from tests.clients import Peer
from tests.docs.snippets import snippet
from tests.http_clients import fetch
from tests.web.agent import program

pytestmark = [pytest.mark.e2e, pytest.mark.edge, pytest.mark.timeout(120)]

PROXIES = Path(__file__).parents[2] / "config" / "proxies"
# In place of the files' 75 seconds.
IDLE_SECONDS = 2
KINDS = ("nginx", "haproxy")


@dataclass
class Proxy:
    """A running proxy: its port, the certificate to trust, and its log file."""

    process: subprocess.Popen[bytes]
    port: int
    trust: ssl.SSLContext
    log: Path

    @property
    def url(self) -> str:
        """The endpoint behind it."""
        return f"wss://127.0.0.1:{self.port}/ws/energy"

    def connect(self, query: str = "", **options: Any) -> Peer:
        """A client that answers pings, as every WebSocket library does."""
        return Peer(
            f"{self.url}{query}",
            additional_headers=options.pop(
                "additional_headers", {"Authorization": f"Bearer {token()}"}
            ),
            ssl=self.trust,
            ping_interval=None,
            close_timeout=0.5,
            open_timeout=PATIENCE_SECONDS,
            **options,
        )

    def reload(self) -> None:
        """As `nginx -s reload` and `systemctl reload haproxy` do."""
        haproxy = "haproxy" in str(self.process.args)
        self.process.send_signal(signal.SIGUSR2 if haproxy else signal.SIGHUP)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def adapted(name: str, changes: dict[str, str]) -> str:
    """A file with these texts replaced; it must contain each of them."""
    text = (PROXIES / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{name} has no {old!r} any more"
        text = text.replace(old, new)
    return text


def certificate(directory: Path) -> tuple[Path, Path]:
    cert, key = directory / "tls.crt", directory / "tls.key"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 "
        f"-keyout {key} -out {cert}".split(),
        check=True,
        capture_output=True,
    )
    return cert, key


def nginx(directory: Path, executable: str, port: int, services: list[Service]) -> list[str]:
    cert, key = directory / "tls.crt", directory / "tls.key"
    text = adapted(
        "nginx.conf",
        {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/nginx/tls.crt": str(cert),
            "/etc/nginx/tls.key": str(key),
            "/var/log/nginx/access.log": str(directory / "log"),
            "energyws-a:8080": f"127.0.0.1:{services[0].port}",
            "energyws-b:8080": f"127.0.0.1:{services[1].port}",
            " 75s": f" {IDLE_SECONDS}s",
            "worker_shutdown_timeout 5m": "worker_shutdown_timeout 1s",
        },
    )
    # Directories that an nginx without an installation and without root can write to.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "\n".join(f"    {kind}_temp_path {directory}/{kind};" for kind in kinds)
    path = directory / "nginx.conf"
    path.write_text(text.replace("http {\n", f"http {{\n{places}\n", 1))
    directives = f"daemon off; pid {directory}/pid; error_log stderr;"
    return [executable, "-p", str(directory), "-c", str(path), "-g", directives]


def haproxy(directory: Path, executable: str, port: int, services: list[Service]) -> list[str]:
    cert, key = directory / "tls.crt", directory / "tls.key"
    pem = directory / "energyws.pem"
    pem.write_bytes(cert.read_bytes() + key.read_bytes())
    one, two = services
    path = directory / "haproxy.cfg"
    path.write_text(
        adapted(
            "haproxy.cfg",
            {
                "bind :443": f"bind 127.0.0.1:{port}",
                "/etc/haproxy/energyws.pem": str(pem),
                "energyws-a:8080": f"127.0.0.1:{one.port} port {one.admin_port}",
                "energyws-b:8080": f"127.0.0.1:{two.port} port {two.admin_port}",
                "timeout client 75s": f"timeout client {IDLE_SECONDS}s",
                "timeout server 75s": f"timeout server {IDLE_SECONDS}s",
                "timeout tunnel 75s": f"timeout tunnel {IDLE_SECONDS}s",
                "hard-stop-after 5m": "hard-stop-after 1s",
                "maxconn 50000": "maxconn 500",
            },
        )
    )
    # With a master, whose workers a reload replaces. It reports when it is ready.
    return [executable, "-Ws", "-db", "-f", str(path)]


def haproxy_with_header(
    directory: Path, executable: str, port: int, services: list[Service]
) -> list[str]:
    """As the file's comment says: the PROXY protocol instead of a header."""
    command = haproxy(directory, executable, port, services)
    path = directory / "haproxy.cfg"
    text = path.read_text().replace("    option forwardfor\n", "")
    for service in services:
        line = f"port {service.admin_port}\n"
        assert line in text
        text = text.replace(line, f"port {service.admin_port} send-proxy-v2\n")
    path.write_text(text)
    return command


COMMANDS = {"nginx": nginx, "haproxy": haproxy, "haproxy send-proxy-v2": haproxy_with_header}


@contextmanager
def running(kind: str, directory: Path, services: list[Service]) -> Iterator[Proxy]:
    executable = program(kind.split()[0])
    cert, _ = certificate(directory)
    port, log = free_port(), directory / "log"
    command = COMMANDS[kind](directory, executable, port, services)
    check = [*command, "-t"] if kind == "nginx" else [executable, "-c", "-f", command[-1]]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn" not in checked.stderr.lower(), checked.stderr
    with (
        log.open("ab") as output,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notified,
    ):
        notified.bind(str(directory / "notified"))
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": str(directory / "notified")},
            start_new_session=True,
        )
        try:
            eventually(lambda: answers(port), f"{kind} listens")
            # A signal that arrives before the master handles signals is lost, or ends it.
            pid = directory / "pid"
            eventually(
                pid.exists if kind == "nginx" else lambda: ready(notified), "the master is ready"
            )
            trust = ssl.create_default_context(cafile=str(cert))
            # websockets reads and writes in two threads. Before Python 3.13 a TLS socket does not
            # always survive that while TLS 1.3 session tickets arrive: one in some hundred fails.
            trust.maximum_version = ssl.TLSVersion.TLSv1_2
            yield Proxy(process, port, trust, log)
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def ready(notified: socket.socket) -> bool:
    """Whether the proxy has just reported that it is ready, see sd_notify(3)."""
    try:
        return b"READY=1" in notified.recv(4096)
    except BlockingIOError:
        return False


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


Start = Callable[..., tuple[Proxy, list[Service]]]


@pytest.fixture
def start(serve: Callable[..., Service], tmp_path: Path) -> Iterator[Start]:
    """Starts a proxy of that kind in front of two replicas with these settings."""
    with ExitStack() as stack:

        def begin(kind: str, **server: Any) -> tuple[Proxy, list[Service]]:
            sections = {"server": {"workers": 1, **server}}
            services = [serve(**sections) for _ in range(2)]
            for service in services:
                service.ready()
            return stack.enter_context(running(kind, tmp_path, services)), services

        yield begin


@pytest.mark.parametrize("kind", KINDS)
def test_idle_client_is_kept_by_pings(start: Start, records: Records, kind: str) -> None:
    proxy, _ = start(kind, ping_interval_seconds=0.5)
    with proxy.connect() as peer:
        peer.subscribe()
        assert sorted(peer.numbers(len(records.send(3)))) == [0, 1, 2]
        # Nothing but pings for twice the proxy's patience.
        with pytest.raises(TimeoutError):
            peer.receive(2 * IDLE_SECONDS + 1)
        assert sorted(peer.numbers(len(records.send(3)))) == [3, 4, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_without_pings_the_proxy_disconnects_an_idle_client(start: Start, kind: str) -> None:
    proxy, _ = start(kind, ping_interval_seconds=60)
    with proxy.connect() as peer:
        peer.subscribe()
        began = time.monotonic()
        with pytest.raises(Exception, match="close frame"):
            peer.receive(5 * IDLE_SECONDS)
        assert time.monotonic() - began > IDLE_SECONDS / 2


@pytest.mark.parametrize("kind", KINDS)
def test_client_that_a_reload_disconnects_resumes(
    start: Start, records: Records, kind: str
) -> None:
    proxy, _ = start(kind, ping_interval_seconds=0.5)
    with proxy.connect() as peer:
        position = peer.subscribe()["position"]
        proxy.reload()
        with pytest.raises(Exception, match="close frame"):
            peer.receive(PATIENCE_SECONDS)
    missed = records.send(5)
    with proxy.connect() as peer:
        assert peer.subscribe(resume={"energy": position})["recovered"]
        assert sorted(peer.numbers(5)) == missed


@pytest.mark.parametrize("kind", KINDS)
def test_no_client_is_refused_while_a_replica_drains(start: Start, kind: str) -> None:
    proxy, services = start(kind, ping_interval_seconds=0.5, drain_seconds=3.0)
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(proxy.connect()).subscribe()
        services[0].signal(signal.SIGTERM)
        services[0].wait_logged("draining")
        while not services[0].logged("stopped"):
            with proxy.connect() as peer:
                peer.subscribe()
    assert services[0].wait() == 0
    # Both replicas had clients.
    assert all(service.logged("WebSocket client connected") for service in services)


def numbers(lines: Iterator[bytes], count: int) -> list[int]:
    """The numbers of the next records of an event stream."""
    records = (line for line in lines if line.startswith(b'data: {"type":"data"'))
    messages = (json.loads(line.removeprefix(b"data: ")) for line in records)
    return [each["data"]["n"] for each in itertools.islice(messages, count)]


@pytest.mark.parametrize("kind", KINDS)
def test_events_and_records_pass_over_http(start: Start, records: Records, kind: str) -> None:
    proxy, services = start(kind, ping_interval_seconds=0.5)
    connection = HTTPSConnection("127.0.0.1", proxy.port, context=proxy.trust, timeout=20)
    connection.request("GET", f"/sse/energy?token={token()}")
    with closing(connection), connection.getresponse() as response:
        assert response.status == 200
        lines = (line.rstrip(b"\n") for line in iter(response.readline, b""))
        assert b"event: subscribed" in lines
        assert sorted(numbers(lines, len(records.send(3)))) == [0, 1, 2]
        # Comments alone, for twice the proxy's patience.
        for _ in range(4 * IDLE_SECONDS):
            assert b":" in lines
        assert numbers(lines, len(records.send(1))) == [3]
    for service in services:
        service.caught_up(records)
    newest = fetch(proxy, "/last/energy?last=4", trust=proxy.trust).json["records"]
    assert sorted(each["data"]["n"] for each in newest) == [0, 1, 2, 3]
    history = fetch(proxy, "/history/energy?last=4", trust=proxy.trust).lines
    assert [line["type"] for line in history] == ["data"] * 4 + ["end"]
    eventually(lambda: "/history/" in proxy.log.read_text(), "the requests are in the log")
    assert "token" not in proxy.log.read_text()


@pytest.mark.parametrize("kind", COMMANDS)
def test_peer_in_the_log_is_the_client(start: Start, kind: str) -> None:
    documented = yaml.safe_load(snippet(test_peer_in_the_log_is_the_client))["server"]
    protocol = "required" if kind.endswith("v2") else "off"
    proxy, services = start(kind, proxy_protocol=protocol, **documented)
    # What a client invents does not count.
    headers = {"Authorization": f"Bearer {token()}", "X-Forwarded-For": "192.0.2.1"}
    for host in ("127.0.0.5", "127.0.0.6"):
        with proxy.connect(additional_headers=headers, source_address=(host, 0)) as peer:
            peer.subscribe()
    event = "WebSocket client connected"
    eventually(lambda: sum(len(each.logged(event)) for each in services) == 2, "two log lines")
    lines = "".join(line for each in services for line in each.logged(event))
    assert sorted(re.findall(r"peer=(\S+)", lines)) == ["127.0.0.5", "127.0.0.6"]


@pytest.mark.parametrize("kind", KINDS)
def test_token_in_a_url_does_not_reach_the_proxys_log(start: Start, kind: str) -> None:
    proxy, _ = start(kind)
    with proxy.connect(f"?token={token()}", additional_headers={}) as peer:
        peer.subscribe()
    eventually(lambda: "/ws/energy" in proxy.log.read_text(), "the request is in the log")
    line = next(line for line in proxy.log.read_text().splitlines() if "/ws/energy" in line)
    assert "token" not in line
    assert re.search(r"\b101\b", line)


def test_traefiks_two_files_belong_together() -> None:
    static = yaml.safe_load((PROXIES / "traefik.yaml").read_text())
    http = yaml.safe_load((PROXIES / "traefik-routes.yaml").read_text())["http"]
    (router,) = http["routers"].values()
    assert set(router["entryPoints"]) <= set(static["entryPoints"])
    assert set(router["middlewares"]) <= set(http["middlewares"])
    balancer = http["services"][router["service"]]["loadBalancer"]
    assert balancer["serversTransport"] in http["serversTransports"]
    assert static["providers"]["file"]["filename"].endswith("/traefik-routes.yaml")
    assert "accessLog" not in static
