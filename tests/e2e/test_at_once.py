"""Each key that takes effect at once: change it on a running service, and see the effect.

A key of energyws.control.reload.TABLE that takes nothing else needs a probe here.
"""

from __future__ import annotations

import contextlib
import copy
import json
import select
import signal
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import fields
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import pytest

from energyws.auth.verifier import mint
from energyws.control.reload.plan import TABLE, Takes, takes
from energyws.settings import Settings
from energyws.testing import SECRET, Broker, Records, Service, config, eventually, token
from energyws.testing.certificates import write_pair
from energyws.testing.issuer import Issuer
from tests.cgroups import group
from tests.clients import bare_socket, masked, response_head, unacknowledged, upgrade_request
from tests.conftest import new_topic
from tests.control.supervised import Run, Supervised
from workers.websocket.accept.listener import ACCEPTS_PER_TURN

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

OTHER: Final = "another-secret-of-more-than-thirty-two-bytes"
SECONDS: Final = 10.0
TEXT, CLOSE, PING = 1, 8, 9
# Far from the values that the probes below set.
BASE: Final[dict[str, dict[str, Any]]] = {
    "server": {
        "workers": 1,
        "drain_seconds": 0.1,
        "close_timeout_seconds": 60,
        "handshake_timeout_seconds": 60,
        "write_buffer_bytes": 16 << 20,
        "send_buffer_bytes": 160 << 10,
        "shed_at_memory_percent": None,
    },
    "auth": {"expiry_notice_seconds": 0},
    "supervision": {"hang_seconds": 600},
}


def keys_at_once() -> set[str]:
    """As section.key."""
    found = set()
    for name, what in TABLE.items():
        if what is Takes.NOTHING:
            section, _, key = name.partition(".")
            kind = next(each for each in fields(Settings) if each.name == section).default_factory
            assert callable(kind)
            found |= {f"{section}.{each.name}" for each in fields(kind())} if not key else {name}
    # A key may take more than its section.
    return {key for key in found if takes(key) is Takes.NOTHING}


class Live:
    """A running service whose configuration file is edited."""

    def __init__(self, service: Service, records: Records, directory: Path) -> None:
        self.service = service
        self.records = records
        self.directory = directory
        self._base = json.loads(service.config_path.read_text())
        self._now = copy.deepcopy(self._base)

    def edit(self, key: str, value: Any) -> None:
        """Change one key in the file."""
        section, _, name = key.partition(".")
        self._now = copy.deepcopy(self._now)
        self._now.setdefault(section, {})[name] = value

    def set(self, key: str, value: Any) -> None:
        """Change one key, and wait until every process has the new settings."""
        self.edit(key, value)
        self._take()

    def reset(self) -> None:
        """Restore the original settings."""
        if self._now != self._base:
            self._now = self._base
            self._take()
        eventually(lambda: len(self.service.children()) == 2, "a consumer and a worker")

    def board(self, name: str = "worker-0") -> dict[str, int]:
        """The figures of one child."""
        children = self.service.admin("/workers")[1]
        board: dict[str, int] = next(c["board"] for c in children if c["name"] == name)
        return board

    def reload(self) -> None:
        """Write the file, and make the service read it."""
        self.service.config_path.write_text(json.dumps(self._now))
        self.service.signal(signal.SIGHUP)

    def _take(self) -> None:
        before = {c["pid"]: c["board"]["reloads"] for c in self.service.admin("/workers")[1]}
        reloaded = len(self.service.logged("reloaded", "changed"))
        self.reload()
        eventually(
            lambda: len(self.service.logged("reloaded", "changed")) > reloaded,
            "the service has reloaded",
        )

        def adopted() -> bool:
            children = self.service.admin("/workers")[1]
            return all(c["board"]["reloads"] > before.get(c["pid"], -1) for c in children)

        eventually(adopted, "every process has the new settings")


@pytest.fixture(scope="module")
def started(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    topic = new_topic(broker)
    directory = tmp_path_factory.mktemp("at-once")
    with Service(directory / "service", config(broker.bootstrap, topic, **BASE)) as service:
        yield Live(service.ready(), Records(broker.bootstrap, topic), directory)
        # pytest shows the log when a test fails.
        print("\n".join(service.lines[-200:]))


@pytest.fixture
def live(started: Live) -> Iterator[Live]:
    yield started
    started.reset()


# The actions and observations of clients.


@contextlib.contextmanager
def raw(service: Service, *lines: str, context: ssl.SSLContext | None = None) -> Iterator[Any]:
    """A client that does nothing on its own: a socket after its handshake."""
    with bare_socket(service, context) as connection:
        connection.sendall(upgrade_request(service, *lines))
        assert response_head(connection).startswith("HTTP/1.1 101 ")
        connection.settimeout(SECONDS)
        yield connection


def bearer(value: str) -> str:
    return f"Authorization: Bearer {value}"


def status(service: Service, *lines: str) -> int:
    """The status of the answer to a handshake."""
    with bare_socket(service) as connection:
        connection.sendall(upgrade_request(service, *lines))
        return int(response_head(connection).split(" ")[1])


def good(service: Service, value: str) -> bool:
    """Whether the service accepts a token."""
    return status(service, bearer(value)) == 101


def read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, "the connection has ended"
        data += piece
    return data


def next_frame(connection: socket.socket) -> tuple[int, bytes]:
    """The next frame's opcode and payload."""
    first, size = read_exactly(connection, 2)
    if size == 126:
        size = int.from_bytes(read_exactly(connection, 2), "big")
    elif size == 127:
        size = int.from_bytes(read_exactly(connection, 8), "big")
    return first & 0xF, read_exactly(connection, size)


def until_code(connection: socket.socket, code: str) -> None:
    """Read until a message has this code."""
    while True:
        opcode, payload = next_frame(connection)
        if opcode == TEXT and json.loads(payload).get("code") == code:
            return


def closed_with(connection: socket.socket) -> int:
    """Read up to the close frame; its code."""
    while True:
        opcode, payload = next_frame(connection)
        if opcode == CLOSE:
            return int.from_bytes(payload[:2], "big")


def ended_within(connection: socket.socket, seconds: float) -> bool:
    """Whether the server ends the connection in that time, whatever it sends first."""
    connection.settimeout(seconds)
    deadline = time.monotonic() + seconds
    try:
        while connection.recv(65536):
            if time.monotonic() > deadline:
                return False
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


# The probes: each changes its key, and checks the effect.


def max_connections(live: Live) -> None:
    with raw(live.service):
        live.set("server.max_connections", 1)
        assert status(live.service) == 503


def workers(live: Live) -> None:
    live.set("server.workers", 2)
    eventually(lambda: len(live.service.children()) == 3, "another worker")


def tls(live: Live) -> None:
    pair = write_pair(live.directory, 30)
    live.set("server.tls", pair)
    trusted = ssl.create_default_context(cafile=pair["cert"])
    with raw(live.service, context=trusted) as connection:
        assert connection.session.has_ticket
        expires = live.board()["certificate_expires"]
    assert abs(expires - time.time() - 30 * 86_400) < 600
    live.set("server.tls", {**pair, "session_tickets": False})
    with raw(live.service, context=trusted) as connection:
        assert connection.session is None or not connection.session.has_ticket


def backlog(live: Live) -> None:
    live.set("server.backlog", 1)
    worker = live.service.children()["worker-0"]
    worker.suspend()
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                each = stack.enter_context(socket.socket())
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", live.service.port))
                # A connection that fits into the queue is established immediately.
                _, connected, _ = select.select([], [each], [], 0.2)
                if not connected:
                    return
        raise AssertionError("all connections fit into the queue")
    finally:
        worker.resume()


def allowed_origins(live: Live) -> None:
    def refused(origin: str) -> bool:
        with raw(live.service, f"Origin: {origin}") as connection:
            connection.sendall(masked(TEXT, b'{"type":"ping"}'))
            return json.loads(next_frame(connection)[1]).get("code") == "FORBIDDEN_ORIGIN"

    assert not refused("https://b.example")
    live.set("server.allowed_origins", ["https://a.example"])
    assert refused("https://b.example")
    assert not refused("https://a.example")


def handshake_timeout(live: Live) -> None:
    with bare_socket(live.service) as before:
        live.set("server.handshake_timeout_seconds", 0.3)
        for said in (b"", b"GET /ws/energy HTTP/1.1\r\n"):
            with bare_socket(live.service) as connection:
                connection.sendall(said)
                assert ended_within(connection, SECONDS), said
        # The new timeout also applies to a connection that was waiting already.
        assert ended_within(before, SECONDS)


def ping_interval(live: Live) -> None:
    with raw(live.service) as connection:
        # The current ping interval is still one of twenty seconds.
        live.set("server.ping_interval_seconds", 0.3)
        assert next_frame(connection)[0] == PING


def pong_timeout(live: Live) -> None:
    live.set("server.ping_interval_seconds", 0.3)
    with raw(live.service) as connection:
        assert next_frame(connection)[0] == PING
        live.set("server.pong_timeout_seconds", 0.3)
        began = time.monotonic()
        assert closed_with(connection) == 4000
        # It also applies to the ping that was unanswered at the time.
        assert time.monotonic() - began < SECONDS


def close_timeout(live: Live) -> None:
    with raw(live.service) as before, raw(live.service) as after:
        # Neither client answers the close frame.
        before.sendall(masked(TEXT, b"{}", reserved=7))
        assert closed_with(before) == 1002
        live.set("server.close_timeout_seconds", 0.3)
        after.sendall(masked(TEXT, b"{}", reserved=7))
        assert ended_within(after, SECONDS)
        assert ended_within(before, SECONDS)


def tcp_user_timeout(live: Live) -> None:
    with bare_socket(live.service) as connection:
        connection.sendall(upgrade_request(live.service, query="?subscribe=energy"))
        assert response_head(connection).startswith("HTTP/1.1 101 ")
        # More than its own kernel takes while it does not read.
        live.records.send(400, pad="x" * 20_000)
        live.set("server.tcp_user_timeout_seconds", 0.5)
        eventually(lambda: live.board()["connections"] == 0, "the client is disconnected", SECONDS)


def max_connection_age(live: Live) -> None:
    live.set("server.max_connection_age_seconds", 0.3)
    with raw(live.service) as connection:
        assert closed_with(connection) == 1012


def max_message_bytes(live: Live) -> None:
    live.set("server.max_message_bytes", 256)
    with raw(live.service) as connection:
        connection.sendall(masked(TEXT, b" " * 300))
        assert closed_with(connection) == 1009


def messages_per_second(live: Live) -> None:
    with raw(live.service) as connection:
        live.set("server.messages_per_second", 1.0)
        connection.sendall(masked(TEXT, b'{"type":"ping"}') * 20)
        until_code(connection, "RATE_LIMITED")


@contextlib.contextmanager
def does_not_read(live: Live) -> Iterator[socket.socket]:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", live.service.port))
        connection.sendall(upgrade_request(live.service, query="?subscribe=energy"))
        assert response_head(connection).startswith("HTTP/1.1 101 ")
        yield connection


def send_much(live: Live) -> None:
    """More than the kernel buffers."""
    live.records.send(12, filling="x" * 700_000)


def write_buffer(live: Live) -> None:
    before = live.board()["deliveries"]
    with does_not_read(live):
        send_much(live)
        eventually(lambda: live.board()["deliveries"] == before + 12, "the buffer takes all of it")
    live.set("server.write_buffer_bytes", 4096)
    with does_not_read(live):
        send_much(live)
        eventually(lambda: live.board()["lagging"] == 1, "the buffer does not take all of it")


def send_buffer(live: Live) -> None:
    def held() -> int:
        before = live.board()["deliveries"]
        with does_not_read(live) as connection:
            send_much(live)
            eventually(
                lambda: live.board()["deliveries"] == before + 12, "the worker has written all"
            )
            return unacknowledged(connection)

    most = held()
    live.set("server.send_buffer_bytes", 16 << 10)
    assert held() < most / 4


def shed_at_memory(live: Live) -> None:
    with group() as limited:
        limited.restart_worker(live.service)
        limited.limit_to(70)
        assert status(live.service) == 101
        live.set("server.shed_at_memory_percent", 60.0)
        eventually(lambda: status(live.service) == 503, "new clients are refused")
    live.set("server.shed_at_memory_percent", None)
    eventually(lambda: status(live.service) == 101, "new clients are let in")


def log_level(live: Live) -> None:
    live.set("log.level", "DEBUG")
    with bare_socket(live.service) as connection:
        connection.sendall(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
        response_head(connection)
    live.service.wait_logged(" DEBUG worker-0 ")


def log_format(live: Live) -> None:
    live.set("log.format", "json")
    with raw(live.service):
        live.service.wait_logged('"process":"worker-0"', '"event":"WebSocket client connected"')
    live.service.wait_logged('"process":"supervisor"')


def admin_token(live: Live) -> None:
    def post(**headers: str) -> int:
        url = f"http://127.0.0.1:{live.service.admin_port}/rebalance"
        headers["Content-Type"] = "application/json"
        request = urllib.request.Request(url, b"null", headers)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code

    # The test itself looks at the service, before and after the change.
    live.service.config["admin"]["token"] = "let me in"
    live.set("admin.token", "let me in")
    assert post() == 401
    assert post(Authorization="Bearer let me in") == 200


def admin_hosts(live: Live) -> None:
    def asked_by_name() -> int:
        connection = HTTPConnection("127.0.0.1", live.service.admin_port, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", "/status", headers={"Host": "node1.example"})
            return connection.getresponse().status

    assert asked_by_name() == 421
    live.set("admin.hosts", ["node1.example"])
    assert asked_by_name() == 200


def of_other_secret(**claims: Any) -> str:
    return mint(OTHER, "tester", 3600, time.time(), claims.get("streams"))


def jwt_secret(live: Live) -> None:
    live.set("auth.jwt_secret", OTHER)
    assert good(live.service, of_other_secret())
    assert not good(live.service, token())


def jwt_secret_file(live: Live) -> None:
    path = live.directory / "secret"
    path.write_text(OTHER)
    live.set("auth.jwt_secret_file", str(path))
    assert good(live.service, of_other_secret())
    assert not good(live.service, token())


def jwt_secret_previous(live: Live) -> None:
    assert not good(live.service, of_other_secret())
    live.set("auth.jwt_secret_previous", OTHER)
    assert good(live.service, of_other_secret())
    assert good(live.service, token())


def jwt_secret_previous_file(live: Live) -> None:
    path = live.directory / "previous"
    path.write_text(OTHER)
    live.set("auth.jwt_secret_previous_file", str(path))
    assert good(live.service, of_other_secret())


def jwks(live: Live) -> None:
    """The URL, and the issuer: each is changed alone once both are there."""
    with Issuer("a", "ES256") as first, Issuer("b", "ES256") as second:
        live.edit("auth.issuer", first.name)
        live.set("auth.jwks_url", first.url)
        eventually(lambda: good(live.service, first.token()), "the keys are fetched")
        live.set("auth.jwks_url", second.url)
        eventually(
            lambda: good(live.service, second.token(iss=first.name)),
            "the other issuer's keys are fetched",
        )
        assert not good(live.service, first.token())
        live.set("auth.issuer", second.name)
        eventually(lambda: good(live.service, second.token()), "the other issuer")
        assert not good(live.service, second.token(iss=first.name))


def issuers(live: Live) -> None:
    with Issuer("a", "ES256") as issuer:
        live.set("auth.issuers", [described(issuer)])
        eventually(lambda: good(live.service, issuer.token()), "the keys are fetched")
        assert not good(live.service, token())


def described(issuer: Issuer) -> dict[str, str]:
    return {"name": issuer.kid, "issuer": issuer.name, "jwks_url": issuer.url}


def audience(live: Live) -> None:
    with Issuer("a", "ES256") as issuer:
        live.set("auth.issuers", [described(issuer)])
        eventually(lambda: good(live.service, issuer.token()), "the keys are fetched")
        live.set("auth.audience", "meters")
        assert not good(live.service, issuer.token())
        assert good(live.service, issuer.token(aud="meters"))


def streams_claim(live: Live) -> None:
    with Issuer("a", "ES256") as issuer:
        live.set("auth.issuers", [described(issuer)])
        eventually(lambda: good(live.service, issuer.token()), "the keys are fetched")
        live.set("auth.streams_claim", "may")
        with raw(live.service, bearer(issuer.token(may=["other"]))) as connection:
            connection.sendall(masked(TEXT, b'{"type":"subscribe","streams":["energy"]}'))
            until_code(connection, "FORBIDDEN_STREAM")


def scope_prefix(live: Live) -> None:
    with Issuer("a", "ES256") as issuer:
        live.set("auth.issuers", [described(issuer)])
        eventually(lambda: good(live.service, issuer.token()), "the keys are fetched")
        live.set("auth.scope_prefix", "read:")
        with raw(live.service, bearer(issuer.token(scope="read:other"))) as connection:
            connection.sendall(masked(TEXT, b'{"type":"subscribe","streams":["energy"]}'))
            until_code(connection, "FORBIDDEN_STREAM")


def leeway(live: Live) -> None:
    late = mint(SECRET, "tester", 10, time.time() - 110)
    assert not good(live.service, late)
    live.set("auth.leeway_seconds", 300)
    assert good(live.service, late)


def max_token_seconds(live: Live) -> None:
    live.set("auth.max_token_seconds", 0.5)
    with raw(live.service) as connection:
        until_code(connection, "TOKEN_EXPIRED")


def expiry_notice(live: Live) -> None:
    with raw(live.service, bearer(token(seconds=200))) as connection:
        live.set("auth.expiry_notice_seconds", 600)
        until_code(connection, "TOKEN_EXPIRING")


def jwks_refresh(live: Live) -> None:
    with Issuer("a", "ES256") as issuer:
        live.set("auth.issuers", [described(issuer)])
        eventually(lambda: good(live.service, issuer.token()), "the keys are fetched")
        live.set("auth.jwks_refresh_seconds", 1)
        fetched = issuer.fetches
        # The change itself causes one fetch.
        eventually(lambda: issuer.fetches >= fetched + 3, "the keys are fetched every second")


def jwks_timeout(live: Live) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        live.set("auth.jwks_timeout_seconds", 0.2)
        began = time.monotonic()
        live.set("auth.issuers", [{"name": "silent", "issuer": "silent", "jwks_url": url}])
        live.service.wait_logged("keys cannot be fetched", "issuer=silent")
        # The default is five seconds.
        assert time.monotonic() - began < 4


def jwks_max_stale(live: Live) -> None:
    with Issuer("a", "ES256") as issuer:
        live.edit("auth.jwks_refresh_seconds", 1)
        live.set("auth.issuers", [described(issuer)])
        eventually(lambda: good(live.service, issuer.token()), "the keys are fetched")
        live.set("auth.jwks_max_stale_seconds", 0.2)
        issuer.down = True
        eventually(lambda: not good(live.service, issuer.token()), "the keys are too old")


def allow_http_jwks(live: Live) -> None:
    # It leads to this machine, but does not say so.
    foreign = {"name": "foreign", "issuer": "foreign", "jwks_url": "http://0.0.0.0:1/"}
    live.edit("auth.issuers", [foreign])
    live.reload()
    live.service.wait_logged("reload refused", "auth.allow_http_jwks")
    live.set("auth.allow_http_jwks", True)
    live.service.wait_logged("keys cannot be fetched", "issuer=foreign")


def jwt_secret_issuer(live: Live) -> None:
    live.set("auth.jwt_secret_issuer", "https://me.example")
    assert not good(live.service, token())
    assert good(live.service, mint(SECRET, "me", 60, time.time(), issuer="https://me.example"))


def jwt_secret_beside_issuers(live: Live) -> None:
    with Issuer("a", "ES256") as issuer:
        live.set("auth.issuers", [described(issuer)])
        assert not good(live.service, token())
        live.set("auth.jwt_secret_beside_issuers", True)
        assert good(live.service, token())
        eventually(lambda: good(live.service, issuer.token()), "the keys are fetched")


def allow_weak_secret(live: Live) -> None:
    live.edit("auth.jwt_secret", "weak")
    live.reload()
    live.service.wait_logged("reload refused", "auth.jwt_secret: shorter than 32 bytes")
    live.set("auth.allow_weak_secret", True)
    assert good(live.service, mint("weak", "me", 60, time.time()))


def required_claims(live: Live) -> None:
    live.set("auth.required_claims", {"sub": ["me", "you"]})
    assert not good(live.service, token())
    assert good(live.service, token("you"))


def denied_file(live: Live) -> None:
    path = live.directory / "denied"
    path.write_text('{"sub": "tester"}')
    live.set("auth.denied_file", str(path))
    eventually(lambda: not good(live.service, token()), "the subject is denied")
    assert good(live.service, token("me"))


def refuse_long_tokens(live: Live) -> None:
    live.edit("auth.max_token_seconds", 600)
    live.set("auth.refuse_long_tokens", True)
    assert not good(live.service, token())
    assert good(live.service, token(seconds=300))


def reject(live: Live) -> None:
    assert status(live.service, bearer("no.good.token")) == 401
    live.set("auth.reject", "message")
    with raw(live.service, bearer("no.good.token")) as connection:
        until_code(connection, "UNAUTHORIZED")


def hang_seconds(live: Live) -> None:
    live.service.children()["worker-0"].suspend()
    live.edit("supervision.hang_seconds", 0.5)
    # The stopped worker cannot adopt the new settings itself.
    live.reload()
    live.service.wait_logged("killing child", "child=worker-0", "no heartbeat and no CPU time")
    live.service.ready()


def connections_limit(key: str) -> Callable[[Live], None]:
    def probe(live: Live) -> None:
        mine = bearer(token())
        with raw(live.service, mine):
            live.set(key, 1)
            # Who comes now is counted, and who is there is not.
            with raw(live.service, mine):
                assert status(live.service, mine) == 429

    return probe


def pending_connections(live: Live) -> None:
    with contextlib.ExitStack() as stack:
        # Beside the limit, a worker lets some of its own wait.
        for _ in range(ACCEPTS_PER_TURN + 1):
            stack.enter_context(bare_socket(live.service))
        live.set("limits.pending_connections", 1)
        assert status(live.service) == 101
        eventually(lambda: live.board()["pending"] <= ACCEPTS_PER_TURN, "the oldest are closed")


def pending_per_address(live: Live) -> None:
    live.set("limits.pending_per_address", 1)
    with bare_socket(live.service), bare_socket(live.service) as another:
        assert ended_within(another, SECONDS)


def new_connections(live: Live) -> None:
    def answered() -> bool:
        with bare_socket(live.service) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
            return connection.recv(1) == b"H"
        return False

    assert all(answered() for _ in range(5))
    live.set("limits.new_connections_per_address_per_second", 1)
    eventually(lambda: not answered(), "more than one in a second are too many")


def messages_per_subject(live: Live) -> None:
    with raw(live.service) as connection:
        live.set("limits.messages_per_subject_per_second", 1)
        connection.sendall(masked(TEXT, b'{"type":"ping"}') * 3)
        until_code(connection, "RATE_LIMITED")


def replay_limit(key: str) -> Callable[[Live], None]:
    def probe(live: Live) -> None:
        live.records.send(60, pad="x" * 5_000)
        live.service.caught_up(live.records)
        live.set(key, 64 * 1024)
        with bare_socket(live.service) as connection:
            request = upgrade_request(live.service, query="?subscribe=energy&last=60")
            connection.sendall(request)
            live.service.wait_logged("replay is slowed down", f"limit={key.partition('.')[2]}")

    return probe


def trusted_proxies(live: Live) -> None:
    live.set("server.trusted_proxies", ["127.0.0.1"])
    with raw(live.service, "X-Forwarded-For: 192.0.2.1"):
        live.service.wait_logged("WebSocket client connected", "peer=192.0.2.1")


def forwarded_header(live: Live) -> None:
    live.edit("server.trusted_proxies", ["127.0.0.1"])
    live.set("server.forwarded_header", "Forwarded")
    with raw(live.service, "Forwarded: for=192.0.2.2"):
        live.service.wait_logged("WebSocket client connected", "peer=192.0.2.2")


def proxy_protocol(live: Live) -> None:
    live.edit("server.trusted_proxies", ["127.0.0.1"])
    live.set("server.proxy_protocol", "optional")
    with bare_socket(live.service) as connection:
        connection.sendall(b"PROXY TCP4 192.0.2.3 127.0.0.1 4711 443\r\n")
        connection.sendall(upgrade_request(live.service))
        assert response_head(connection).startswith("HTTP/1.1 101 ")
        live.service.wait_logged("WebSocket client connected", "peer=192.0.2.3")


LIVE: Final[dict[str, Callable[[Live], None]]] = {
    "server.max_connections": max_connections,
    "server.workers": workers,
    "server.tls": tls,
    "server.backlog": backlog,
    "server.allowed_origins": allowed_origins,
    "server.handshake_timeout_seconds": handshake_timeout,
    "server.ping_interval_seconds": ping_interval,
    "server.pong_timeout_seconds": pong_timeout,
    "server.close_timeout_seconds": close_timeout,
    "server.tcp_user_timeout_seconds": tcp_user_timeout,
    "server.max_connection_age_seconds": max_connection_age,
    "server.max_message_bytes": max_message_bytes,
    "server.messages_per_second": messages_per_second,
    "server.write_buffer_bytes": write_buffer,
    "server.send_buffer_bytes": send_buffer,
    "server.shed_at_memory_percent": shed_at_memory,
    "log.level": log_level,
    "log.format": log_format,
    "admin.token": admin_token,
    "admin.hosts": admin_hosts,
    "auth.jwt_secret": jwt_secret,
    "auth.jwt_secret_file": jwt_secret_file,
    "auth.jwt_secret_previous": jwt_secret_previous,
    "auth.jwt_secret_previous_file": jwt_secret_previous_file,
    "auth.jwt_secret_issuer": jwt_secret_issuer,
    "auth.jwt_secret_beside_issuers": jwt_secret_beside_issuers,
    "auth.allow_weak_secret": allow_weak_secret,
    "auth.jwks_url": jwks,
    "auth.issuer": jwks,
    "auth.issuers": issuers,
    "auth.audience": audience,
    "auth.required_claims": required_claims,
    "auth.denied_file": denied_file,
    "auth.streams_claim": streams_claim,
    "auth.scope_prefix": scope_prefix,
    "auth.leeway_seconds": leeway,
    "auth.max_token_seconds": max_token_seconds,
    "auth.refuse_long_tokens": refuse_long_tokens,
    "auth.expiry_notice_seconds": expiry_notice,
    "auth.jwks_refresh_seconds": jwks_refresh,
    "auth.jwks_timeout_seconds": jwks_timeout,
    "auth.jwks_max_stale_seconds": jwks_max_stale,
    "auth.allow_http_jwks": allow_http_jwks,
    "auth.reject": reject,
    "supervision.hang_seconds": hang_seconds,
    "server.trusted_proxies": trusted_proxies,
    "server.forwarded_header": forwarded_header,
    "server.proxy_protocol": proxy_protocol,
    **{
        key: connections_limit(key)
        for key in (
            "limits.connections_per_address",
            "limits.connections_per_subject",
            "limits.connections_per_token",
        )
    },
    "limits.pending_connections": pending_connections,
    "limits.pending_per_address": pending_per_address,
    "limits.new_connections_per_address_per_second": new_connections,
    "limits.messages_per_subject_per_second": messages_per_subject,
    **{
        key: replay_limit(key)
        for key in (
            "limits.replay_bytes_per_client_per_second",
            "limits.replay_bytes_per_subject_per_second",
        )
    },
}


# Probes that end the service; each has a service of its own.


def drain_delay(live: Live) -> None:
    live.set("server.drain_delay_seconds", 3.0)
    began = time.monotonic()
    live.service.signal(signal.SIGTERM)
    live.service.wait_logged("draining", "delay=3")
    eventually(lambda: "draining" in live.service.admin("/ready")[1]["reasons"], "/ready says so")
    # New clients are still accepted.
    assert status(live.service) == 101
    assert live.service.wait() == 0
    assert time.monotonic() - began >= 3


def drain_seconds(live: Live) -> None:
    live.set("server.drain_seconds", 3600.0)
    with raw(live.service), raw(live.service) as second:
        live.set("server.drain_seconds", 0.1)
        live.service.signal(signal.SIGTERM)
        # With the old value, the second client would be closed after half an hour.
        assert closed_with(second) == 1012
    assert live.service.wait() == 0


ENDING: Final = {
    "server.drain_delay_seconds": drain_delay,
    "server.drain_seconds": drain_seconds,
}


# Probes that need a stream with keys.


def keys_per_subscription(live: Live) -> None:
    request = b'{"type":"subscribe","streams":["energy"],"keys":{"energy":["a","b"]}}'
    with raw(live.service) as connection:
        live.set("limits.keys_per_subscription", 1)
        connection.sendall(masked(TEXT, request))
        until_code(connection, "TOO_MANY_KEYS")


KEYED: Final = {"limits.keys_per_subscription": keys_per_subscription}


# Probes that need children with a particular behaviour.


def reloaded(run: Run, key: str, before: Any, after: Any, **children: str) -> Supervised:
    """A supervisor whose next reload finds the key changed; the caller requests the reload."""
    section, _, name = key.partition(".")
    sections: dict[str, Any] = {"supervision": {"crash_loop_count": 1000, "hang_seconds": 600}}
    sections[section][name] = before
    return run(children, host={"reload": {section: {name: after}}}, **sections)


def starved_seconds(run: Run) -> None:
    supervised = reloaded(run, "supervision.starved_seconds", 600, 0.5, **{"worker-0": "computing"})
    supervised.wait_logged("worker-0 ready")
    supervised.signal(signal.SIGHUP)
    supervised.wait_logged("killing child", "child=worker-0", "although it computes")


def crash_loop_count(run: Run) -> None:
    supervised = reloaded(run, "supervision.crash_loop_count", 1000, 2, **{"worker-0": "crashing"})
    supervised.wait_logged("child started", "child=worker-0", "restarts=2")
    supervised.signal(signal.SIGHUP)
    assert supervised.wait() == 4


def crash_loop_seconds(run: Run) -> None:
    supervised = run(
        {"worker-0": "crashing"},
        host={"reload": {"supervision": {"crash_loop_seconds": 600}}},
        supervision={"crash_loop_count": 3, "crash_loop_seconds": 0.01},
    )
    supervised.wait_logged("child started", "child=worker-0", "restarts=4")
    supervised.signal(signal.SIGHUP)
    assert supervised.wait() == 4


def backoff_max(run: Run) -> None:
    supervised = reloaded(
        run, "supervision.backoff_max_seconds", 600, 0.05, **{"worker-0": "crashing"}
    )
    supervised.wait_logged("child ended", "child=worker-0", count=7)
    # With the old bound, the next pauses would be at least 8, 16 and 32 seconds.
    supervised.signal(signal.SIGHUP)
    began = time.monotonic()
    supervised.wait_logged("child started", "child=worker-0", "restarts=9")
    assert time.monotonic() - began < 4


def rebalance_seconds(run: Run) -> None:
    supervised = reloaded(
        run, "supervision.rebalance_seconds", 3600, 0.2, **{"worker-0": "crowded"}
    )
    supervised.wait_logged(" ready", count=3)
    supervised.signal(signal.SIGHUP)
    supervised.wait_logged("rebalancing", "workers=1")


SUPERVISED: Final = {
    "supervision.starved_seconds": starved_seconds,
    "supervision.crash_loop_count": crash_loop_count,
    "supervision.crash_loop_seconds": crash_loop_seconds,
    "supervision.backoff_max_seconds": backoff_max,
    "supervision.rebalance_seconds": rebalance_seconds,
}


def test_every_key_that_takes_effect_at_once_has_a_probe() -> None:
    assert keys_at_once() - {*LIVE, *ENDING, *KEYED, *SUPERVISED} == set()


@pytest.mark.parametrize("key", sorted(LIVE.keys() & keys_at_once()))
def test_changed_key_takes_effect_at_once(live: Live, key: str) -> None:
    LIVE[key](live)


@pytest.mark.parametrize("key", sorted(ENDING))
def test_changed_drain_key_takes_effect_at_once(
    broker: Broker, topic: str, tmp_path: Path, key: str
) -> None:
    with Service(tmp_path, config(broker.bootstrap, topic, **BASE)) as service:
        ENDING[key](Live(service.ready(), Records(broker.bootstrap, topic), tmp_path))


@pytest.mark.parametrize("key", sorted(KEYED))
def test_changed_key_about_keys_takes_effect_at_once(
    broker: Broker, topic: str, tmp_path: Path, key: str
) -> None:
    streams = {"energy": {"topic": topic, "key": "record"}}
    chosen = config(broker.bootstrap, topic, streams=streams, **BASE)
    with Service(tmp_path, chosen) as service:
        KEYED[key](Live(service.ready(), Records(broker.bootstrap, topic), tmp_path))


@pytest.mark.parametrize("key", sorted(SUPERVISED))
def test_changed_supervision_key_takes_effect_at_once(run: Run, key: str) -> None:
    SUPERVISED[key](run)
