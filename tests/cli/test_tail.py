"""`energyws tail` as a shell runs it: its output, exit codes and messages."""

from __future__ import annotations

import json
import shlex
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from energyws.testing import Broker, Records, Service, config, eventually, token
from energyws.testing.proxy import TcpProxy
from tests.cli.command import Tail, energyws
from tests.cli.ports import answering
from tests.client.script import Script, one_reading, subscribed, wait

pytestmark = pytest.mark.timeout(120)
Serve = Callable[..., Service]
AUTHORITY = "; name its authority with --cacert FILE"


def ends(code: int, text: str, *arguments: str, **environment: str) -> None:
    """Run it to its end; expect this exit code and this line only."""
    done = energyws("tail", *arguments, **{"WS_TOKEN": "", **environment})
    assert (done.stdout, done.stderr) == ("", f"energyws: {text}\n")
    assert done.returncode == code


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Self-signed certificates and their keys, by subject."""
    made = {}
    for name, subject in (("here", "IP:127.0.0.1"), ("elsewhere", "DNS:elsewhere.example")):
        directory = tmp_path_factory.mktemp(name)
        made[name] = directory / "cert.pem", directory / "key.pem"
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
            f"-subj /CN=x -addext subjectAltName={subject} "
            f"-out {made[name][0]} -keyout {made[name][1]}"
        )
        subprocess.run(shlex.split(command), check=True, capture_output=True)
    return made


def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*certificate)
    return made


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8080/ws/energy", "no scheme: write ws://localhost:8080/ws/energy"),
        ("localhost:8080", "no scheme: write ws://localhost:8080/ws/energy"),
        ("[::1]:8080/other?token=CANARY", "no scheme: write ws://[::1]:8080/other"),
        ("ws:localhost", "no scheme: write ws://HOST:PORT/ws/energy"),
        ("", "no scheme: write ws://HOST:PORT/ws/energy"),
        (
            "http://localhost:8080/ws/energy?token=CANARY",
            "http:// is not a WebSocket: write ws://localhost:8080/ws/energy",
        ),
        (
            "https://me:CANARY@meters.example",
            "https:// is not a WebSocket: write wss://meters.example/ws/energy",
        ),
        (
            "HTTPS://meters.example/",
            "HTTPS:// is not a WebSocket: write wss://meters.example/ws/energy",
        ),
        ("ftp://meters.example/ws/energy", "ftp:// is not a WebSocket: use ws:// or wss://"),
        ("ws://localhost:8080", "no path: write ws://localhost:8080/ws/energy"),
        ("wss://me:CANARY@[::1]?token=CANARY", "no path: write wss://[::1]/ws/energy"),
        ("ws://localhost:99999/ws/energy", "cannot be used: write ws://HOST:PORT/ws/energy"),
        ("wss://:8080/ws/energy", "cannot be used: write wss://HOST:PORT/ws/energy"),
        ("ws://localhost:8080/ws/energy#CANARY", "cannot be used: write ws://HOST:PORT/ws/energy"),
    ],
)
def test_invalid_url_is_refused_with_a_valid_one(url: str, message: str) -> None:
    ends(2, f"URL: {message}", url)


def test_invalid_authority_file_is_refused(tmp_path: Path) -> None:
    url = "wss://127.0.0.1:1/ws/energy"
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    empty.write_text("no certificate")
    ends(2, f"--cacert: {missing}: No such file or directory", url, "--cacert", str(missing))
    ends(2, f"--cacert: {empty} holds no certificate in PEM", url, "--cacert", str(empty))
    ends(2, f"--cacert: {tmp_path}: Is a directory", url, "--cacert", str(tmp_path))


def test_invalid_position_is_refused() -> None:
    text = "--resume: not a position: expected the `id` of a data message"
    ends(2, text, "ws://127.0.0.1:1/ws/energy", "--resume", "energy:yesterday")


@pytest.mark.parametrize("count", ["0", "-1", "x"])
def test_invalid_count_is_refused(count: str) -> None:
    done = energyws("tail", "ws://127.0.0.1:1/ws/energy", f"--count={count}")
    assert done.returncode == 2
    assert "write a number from 1 on" in done.stderr


def test_exit_codes_are_in_the_help() -> None:
    done = energyws("tail", "--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert "Exit codes: 0 after" in text
    assert "1 when" in text
    assert "2 for" in text


def test_unknown_host_ends_it() -> None:
    ends(1, "no-such-host.invalid is not a known host", "ws://no-such-host.invalid/ws/energy")


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_closed_port_is_reported_once_and_tried_again(scheme: str) -> None:
    with socket.socket() as taken:
        # The port is taken, but nothing listens on it.
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        check_closed_port(f"{scheme}://{place}/ws/energy", place)


def check_closed_port(url: str, place: str) -> None:
    with Tail(url) as tail:
        text = f"nothing listens at {place} (is the service running, and is this its port?)"
        tail.says(f"{text}; trying again")
        # Longer than the silence that it would otherwise report.
        started = time.monotonic()
        eventually(lambda: time.monotonic() - started > 6, "some attempts")
        assert len(tail.messages) == 1
        assert tail.interrupt() == 0
    assert tail.readings == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"\0\1\r\n\r\n", "{} does not speak WebSocket (is this the service's port?)"),
        (b"SSH-2.0-x\r\n", "{} does not speak WebSocket (is this the service's port?)"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP 200, not a WebSocket; the service answers at /ws/energy",
        ),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://x.example/\r\nContent-Length: 0\r\n\r\n",
            "HTTP 301, not a WebSocket; the service answers at /ws/energy",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
            "HTTP 400, not a WebSocket (is this the service's port?)",
        ),
        (
            b"HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: x\r\n\r\n",
            "the answer to the handshake is not a WebSocket's (is this the service's port?)",
        ),
    ],
)
def test_port_of_another_program_ends_it(answer: bytes, message: str) -> None:
    with answering(answer) as place:
        ends(1, message.format(place), f"ws://{place}/ws/energy")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            None,
            "{} ended the connection before the handshake was over (is this the service's port?)",
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "HTTP 502"),
        (b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n", "HTTP 429"),
    ],
)
def test_temporary_failure_is_reported_and_tried_again(answer: bytes | None, message: str) -> None:
    with answering(answer) as place, Tail(f"ws://{place}/ws/energy") as tail:
        tail.says(f"{message.format(place)}; trying again")
        assert tail.interrupt() == 0


def test_port_that_answers_nothing_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        with Tail(f"ws://{place}/ws/energy") as tail:
            tail.says(f"{place} does not answer; trying again")
            assert tail.interrupt() == 0


def test_wss_to_a_port_without_tls_ends_it() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as place:
        ends(
            1,
            f"{place} does not speak TLS; for a port without TLS use ws://",
            f"wss://{place}/ws/energy",
        )


def test_ws_to_a_port_with_tls_ends_it(certificates: dict[str, tuple[Path, Path]]) -> None:
    with answering(b"", context(certificates["here"])) as place:
        ends(1, f"{place} speaks TLS; write wss:// instead of ws://", f"ws://{place}/ws/energy")


def test_untrusted_certificate_ends_it(
    certificates: dict[str, tuple[Path, Path]],
) -> None:
    file = str(certificates["elsewhere"][0])
    for name, why, cacert in (
        ("here", f"it is self-signed{AUTHORITY}", ()),
        ("here", f"it is self-signed{AUTHORITY}", ("--cacert", file)),
        (
            "elsewhere",
            "it is for another host; use the name in the certificate",
            ("--cacert", file),
        ),
    ):
        with answering(b"", context(certificates[name])) as place:
            text = f"the certificate of {place} is not trusted: {why}"
            ends(1, text, f"wss://{place}/ws/energy", *cacert)


@pytest.mark.e2e
def test_refusals_of_the_service_end_it(
    serve: Serve, records: Records, certificates: dict[str, tuple[Path, Path]]
) -> None:
    service = serve(server={"workers": 1}).ready()
    url, good = service.url, token()
    none = "none was given; set WS_TOKEN, or add ?token= to the URL"
    ends(1, f"HTTP 401: Invalid token: {none}", url)
    ends(1, "HTTP 401: Invalid token", url, WS_TOKEN="nonsense")
    ends(1, "HTTP 401: Invalid token", f"{url}?token=nonsense")
    ends(1, "the token is not a JWT", url, WS_TOKEN="two words")
    path = "HTTP 404: No such path; the service answers at /ws/energy"
    ends(1, path, url.replace("energy", "gas"), WS_TOKEN=good)
    admin = f"127.0.0.1:{service.admin_port}"
    text = f"{admin} does not speak WebSocket (is this the service's port?)"
    ends(1, text, f"ws://{admin}/ws/energy", WS_TOKEN=good)
    denied = "FORBIDDEN_STREAM: The token does not allow this stream: 'energy'"
    ends(1, denied, url, WS_TOKEN=token(streams=["water"]))
    unknown = "UNKNOWN_STREAM: Unknown stream: 'gas'; known are energy"
    ends(1, unknown, url, "--stream=gas", WS_TOKEN=good)
    for argument in ("--since=yesterday", "--last=-1"):
        done = energyws("tail", url, argument, WS_TOKEN=good)
        assert done.returncode == 1
        assert done.stderr.startswith("energyws: BAD_MESSAGE: The message has a wrong field: ")
    certificate, key = map(str, certificates["here"])
    secure = serve(server={"workers": 1, "tls": {"cert": certificate, "key": key}}).ready()
    place = f"127.0.0.1:{secure.port}"
    text = f"the certificate of {place} is not trusted: it is self-signed{AUTHORITY}"
    ends(1, text, secure.url, WS_TOKEN=good)
    ends(1, f"{place} speaks TLS; write wss:// instead of ws://", f"ws://{place}/ws/energy")
    records.send(3)
    secure.caught_up(records)
    arguments = ("--cacert", certificate, "--last=3", "--count=3")
    done = energyws("tail", secure.url, *arguments, WS_TOKEN=f" {good}\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.e2e
def test_silence_is_reported_with_its_reason(
    broker: Broker, topic: str, records: Records, tmp_path: Path
) -> None:
    host, _, port = broker.bootstrap.partition(":")
    with TcpProxy(host, int(port)) as proxy:
        proxy.cut()
        settings = config(f"127.0.0.1:{proxy.port}", topic, server={"workers": 1})
        with (
            Service(tmp_path / "first", settings) as service,
            Tail(f"{service.url}?token={token()}") as tail,
        ):
            waits = "The topic cannot be read yet: the subscription waits for it"
            tail.says(f"no readings: STREAM_UNAVAILABLE: {waits}")
            proxy.restore()
            service.ready()
            tail.says("subscribed, but no reading has come for 5 s")
            records.send(3)
            eventually(lambda: len(tail.readings) == 3, "all readings are printed")
            settings["server"]["port"] = service.port
            assert service.stop() == 0
            eventually(
                lambda: any("nothing listens" in line for line in tail.messages),
                "the end of the service is reported",
            )
            with Service(tmp_path / "second", settings) as again:
                again.ready()
                tail.says("subscribed")
                records.send(3)
                eventually(lambda: len(tail.readings) == 6, "readings after the restart")
                assert tail.interrupt() == 0
        assert all(line.startswith("energyws: ") for line in tail.messages)


@pytest.mark.e2e
def test_full_service_is_reported_and_tried_again(serve: Serve) -> None:
    service = serve(server={"workers": 1, "max_connections": 1}).ready()
    with Tail(service.url, WS_TOKEN=token()) as first:
        first.says("subscribed, but no reading has come for 5 s")
        with Tail(service.url, WS_TOKEN=token()) as second:
            second.says("HTTP 503: The service is full: try again later; trying again")
            assert first.interrupt() == 0
            second.says("subscribed")


@pytest.mark.parametrize("rate", ["0", "-1", "x", "1e9", "inf"])
def test_invalid_rate_is_refused(rate: str) -> None:
    done = energyws("tail", "ws://127.0.0.1:1/ws/energy", f"--max-rate={rate}")
    assert done.returncode == 2
    assert "write a number above 0, such as 0.5" in done.stderr


def test_keys_are_asked_for_and_printed() -> None:
    requests: list[dict[str, Any]] = []

    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        requests.append(request)
        positions = {"energy": {"position": "aa-0"}}
        state = {"position": "aa-0", "complete": True, "since": None, "keys": 1}
        more = {"keys": {"energy": 2}, "snapshots": {"energy": state}}
        of = {"stream": "energy", "timestamp": "t", "key": "735"}
        for message in (
            {"type": "subscribed", "streams": ["energy"], "positions": positions, **more},
            {"type": "snapshot", **of, "data": {"n": 1}},
            {"type": "position", "stream": "energy", "id": "aa-0"},
            {"type": "data", **of, "data": {"n": 2}, "id": "aa-1"},
            {"type": "removed", **of, "id": "aa-2"},
        ):
            connection.send(json.dumps(message))
        wait(connection, request)

    options = ["--key=735", "--key=736", "--snapshot", "--max-rate=0.5"]
    with Script(scene) as script, Tail(script.url, *options) as tail:
        eventually(lambda: len(tail.readings) == 3, "the lines are printed")
    common = {"stream": "energy", "timestamp": "t", "key": "735"}
    assert tail.readings == [
        {**common, "data": {"n": 1}, "is_snapshot": True},
        {**common, "data": {"n": 2}, "position": "aa-1"},
        {**common, "removed": True, "position": "aa-2"},
    ]
    asked = {"keys": {"energy": ["735", "736"]}, "snapshot": True, "max_rate": 0.5}
    assert requests[0] == {"type": "subscribe", "streams": ["energy"], "on_lag": "skip", **asked}


def test_service_that_knows_no_keys_ends_it() -> None:
    with Script(one_reading) as script:
        ends(1, "the service does not filter energy by key", script.url, "--key", "735")


def test_record_that_orjson_refuses_is_printed() -> None:
    record = {"n": 1, "name": "kitchen \ud83d", "w": 12345678901234567890123}

    def scene(connection: ServerConnection, request: dict[str, Any]) -> None:
        subscribed(connection, "aa-0")
        message = {
            "type": "data",
            "stream": "energy",
            "timestamp": "",
            "data": record,
            "id": "aa-1",
        }
        connection.send(json.dumps(message))
        wait(connection, request)

    with Script(scene) as script, Tail(script.url) as tail:
        eventually(lambda: tail.readings, "the reading is printed")
    assert [each["data"] for each in tail.readings] == [record]
