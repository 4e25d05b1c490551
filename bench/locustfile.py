"""Users of a deployed service, for Locust: headless or with its web page.

    locust -f bench/locustfile.py --host wss://energy.example --jwt-secret "$JWT_SECRET" \\
        --headless --users 200 --spawn-rate 10 --run-time 10m
    locust -f bench/locustfile.py --host wss://energy.example      web page: http://localhost:8089

Every user has a token and a subscription. A Dashboard stays connected for minutes and pings now and
then; a Phone is put away and taken out again. Both drop their connection without a close frame and
resume later. Locust's statistics, of type ws or wss as in the host, have these rows: `connect` and
`resume`, the time until `subscribed` arrives; `frame`, the delay from the record's timestamp (the
clocks should agree); `replay`, the time from `subscribe` to a replayed frame; `ping`. Failures are
gaps, duplicates, failed recoveries, broken connections, missing answers and, with --keys, records
of another key than the user's.

Exits with status 1 if there was a failure, and immediately if the host is invalid or there is no
token.
"""

from __future__ import annotations

import random
import ssl
import sys
import time
from argparse import ArgumentParser, Namespace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import gevent
import orjson
import websocket
from gevent.event import Event
from locust import User, between, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

# Locust can import from this file's directory and the working directory; `bench` is in neither,
# unless the latter is the clone.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.kit.track import Track
from energyws.auth.verifier import mint

ANSWER_SECONDS: Final = 10.0
TOKEN_SECONDS: Final = 86_400
# The longest random wait before a reconnect, so that users do not all come back together.
BACKOFF_SECONDS: Final = 5.0
STREAM: Final = "energy"
ENDPOINT: Final = "/ws/energy"


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_arguments(parser: ArgumentParser) -> None:
    """This file's options, which can also be environment variables."""
    add: Any = parser.add_argument
    hidden = {"include_in_web_ui": False}
    add(
        "--jwt-secret",
        env_var="ENERGYWS_JWT_SECRET",
        default="",
        help="the service's auth.jwt_secret: each user gets its own token",
        **hidden,
    )
    add(
        "--jwt",
        env_var="ENERGYWS_JWT",
        default="",
        help="one token for all users, instead of a secret",
        **hidden,
    )
    add(
        "--ca",
        env_var="ENERGYWS_CA",
        default="",
        help="PEM file to verify the server with",
        **hidden,
    )
    add(
        "--dense",
        action="store_true",
        help="every offset of the topic holds a valid record, so a jump is a gap",
    )
    text = "the stream has keys: each user subscribes to one of these, at random"
    add("--keys", default="", metavar="KEY,…", help=text)
    add("--pace", type=float, default=1.0, help="users act this many times as often")


def base_url(host: str) -> str:
    """The host without the endpoint; raises ValueError if the host is invalid."""
    parts = urlsplit(host)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"--host {host}: use ws://HOST:PORT or, where there is TLS, wss://HOST")
    return host.rstrip("/").removesuffix(ENDPOINT)


def problem(host: str | None, options: Namespace) -> str | None:
    """Why no user can connect, judging by the options; None if users can."""
    if not options.jwt and not options.jwt_secret:
        return (
            "no token: give --jwt-secret SECRET (or ENERGYWS_JWT_SECRET), "
            "or --jwt TOKEN (or ENERGYWS_JWT)"
        )
    # Without a host, the operator types it into the web page.
    if host is not None:
        try:
            base_url(host)
        except ValueError as error:
            return str(error)
    return None


@events.init.add_listener  # type: ignore[untyped-decorator]
def check_options(environment: Environment, **others: Any) -> None:
    """Exit before anything starts if no user can connect; a master checks for its workers."""
    assert environment.parsed_options is not None
    if not isinstance(environment.runner, WorkerRunner) and (
        wrong := problem(environment.host, environment.parsed_options)
    ):
        sys.exit(wrong)


class StreamUser(User):
    """A connection, a greenlet that reads it, and a Track that checks what it receives."""

    abstract = True

    def on_start(self) -> None:
        options = self.environment.parsed_options
        assert options is not None
        self._options = options
        self._pace: float = options.pace
        self._kind = urlsplit(self.host or "").scheme
        keys = [key for key in options.keys.split(",") if key]
        self._key = random.choice(keys) if keys else None
        # Between two records of its key, those of the others are no gap.
        self._track = Track(dense=options.dense and self._key is None)
        self._name = f"locust-{random.getrandbits(48):x}"
        self._connection: websocket.WebSocket | None = None
        self._reader: gevent.Greenlet[..., None] | None = None
        self._pong = Event()
        # Of the newest connection: how many more frames may be replayed, and when it subscribed, in
        # Unix seconds and by perf_counter().
        self._replayed = 0
        self._subscribed_at = self._began = 0.0
        self._connect()

    def on_stop(self) -> None:
        self._disconnect()

    def wait_time(self) -> float:
        """Seconds between two actions."""
        seconds: float = type(self).pause(self)
        return seconds / self._pace

    # Set by each kind of user: a function of the user that returns seconds.
    pause: Any = between(10, 20)

    def ensure_connected(self) -> bool:
        """Connect if there is no connection; whether there is one now."""
        if self._connection is None:
            gevent.sleep(random.uniform(0, BACKOFF_SECONDS) / self._pace)
            self._connect()
        return self._connection is not None

    def ping(self) -> None:
        """Send the protocol's own ping and wait for its pong."""
        connection = self._connection
        assert connection is not None
        self._pong.clear()
        began = time.perf_counter()
        try:
            connection.send('{"type":"ping"}')
        except (OSError, websocket.WebSocketException) as error:
            self._finish("ping", began, error=error)
            return
        answered = self._pong.wait(ANSWER_SECONDS)
        # A user that has dropped the connection in the meantime gets no answer.
        if self._connection is connection:
            self._finish("ping", began, error=None if answered else TimeoutError("no pong"))

    def drop(self, seconds: float) -> None:
        """Drop the connection without a close frame, and connect again after `seconds`."""
        self._disconnect()
        gevent.sleep(seconds / self._pace)
        self._connect()

    def _connect(self) -> None:
        name = "connect" if self._track.position is None else "resume"
        began = time.perf_counter()
        try:
            connection = self._open()
        except (OSError, websocket.WebSocketException, ValueError) as error:
            self._finish(name, began, error=error)
            return
        try:
            self._subscribed_at, self._began = time.time(), time.perf_counter()
            connection.send(orjson.dumps(self._subscription()).decode())
            reply = self._subscribed(connection)
        except (OSError, websocket.WebSocketException, ValueError) as error:
            self._finish(name, began, error=error)
            _abandon(connection)
            return
        # Under a key the number may be unknown.
        replayed = reply.get("replayed", 0)
        self._replayed = sys.maxsize if replayed is None else replayed
        wrong = self._track.subscribed(reply)
        self._finish(name, began, error=None if wrong is None else ValueError(wrong))
        self._connection = connection
        self._reader = gevent.spawn(self._read, connection)

    def _open(self) -> websocket.WebSocket:
        options = self._options
        token = options.jwt
        if options.jwt_secret:
            keys = None if self._key is None else [self._key]
            token = mint(options.jwt_secret, self._name, TOKEN_SECONDS, time.time(), keys=keys)
        verify = {"ca_certs": options.ca} if options.ca else {}
        return websocket.create_connection(
            # The host may come from the web page, which shows the error.
            base_url(self.host or "") + ENDPOINT,
            header={"Authorization": f"Bearer {token}"},
            timeout=ANSWER_SECONDS,
            sslopt={"cert_reqs": ssl.CERT_REQUIRED, **verify},
            enable_multithread=True,
        )

    def _subscription(self) -> dict[str, Any]:
        request: dict[str, Any] = {"type": "subscribe", "streams": [STREAM]}
        if self._key is not None:
            request["keys"] = {STREAM: [self._key]}
        if self._track.position is not None:
            request["resume"] = {STREAM: self._track.position}
        return request

    def _subscribed(self, connection: websocket.WebSocket) -> dict[str, Any]:
        message = orjson.loads(connection.recv() or b"null")
        if message is None or message["type"] != "subscribed":
            raise ValueError(f"expected subscribed, received {message}")
        connection.settimeout(None)
        if self._key is not None and STREAM not in message.get("keys", {}):
            raise ValueError("the service does not filter by key")
        reply: dict[str, Any] = message["positions"][STREAM]
        return reply

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if self._reader is not None:
            self._reader.kill()
            self._reader = None
        if connection is not None:
            _abandon(connection)

    def _read(self, connection: websocket.WebSocket) -> None:
        try:
            # recv() also answers pings.
            while raw := connection.recv():
                self._receive(raw)
            problem = "closed by the server"
        except (OSError, websocket.WebSocketException) as error:
            problem = f"broken: {error}"
        if self._connection is connection:
            self._connection = self._reader = None
            _abandon(connection)
            self._finish("connection", time.perf_counter(), error=ConnectionError(problem))

    def _receive(self, raw: str | bytes) -> None:
        message = orjson.loads(raw)
        match message["type"]:
            case "data":
                self._frame(message, len(raw))
            case "position":
                self._track.moved(message["id"])
            case "removed":
                self._report("frame", 0.0, self._track.data(message["id"]), len(raw))
            case "lagged":
                self._report("frame", 0.0, self._track.lagged(message), len(raw))
            case "pong":
                self._pong.set()
            case "error":
                self._report("connection", 0.0, str(message.get("code")), len(raw))

    def _frame(self, message: dict[str, Any], size: int) -> None:
        written = datetime.fromisoformat(message["timestamp"]).timestamp()
        wrong = self._track.data(message["id"])
        if self._key is not None and message.get("key") != self._key:
            wrong = "a record of another key"
        # `subscribed` has the maximum number of replayed frames, all written before it.
        if self._replayed and written < self._subscribed_at:
            self._replayed -= 1
            self._report("replay", time.perf_counter() - self._began, wrong, size)
        else:
            self._replayed = 0
            self._report("frame", time.time() - written, wrong, size)

    def _finish(self, name: str, began: float, *, error: Exception | None) -> None:
        problem = None if error is None else f"{type(error).__name__}: {error}"
        self._report(name, time.perf_counter() - began, problem, 0)

    def _report(self, name: str, seconds: float, problem: str | None, size: int) -> None:
        self.environment.events.request.fire(
            request_type=self._kind,
            name=name,
            response_time=max(0.0, seconds * 1000),
            response_length=size,
            exception=None if problem is None else RuntimeError(problem),
            context={},
        )


def _abandon(connection: Any) -> None:
    """Close the socket without a close frame, as if the network was lost."""
    connection.shutdown()


class Dashboard(StreamUser):
    """A page that stays open: a ping every 15 seconds, a dropped connection every five minutes."""

    weight = 3
    pause = between(10, 20)

    @task(20)
    def stay(self) -> None:
        if self.ensure_connected():
            self.ping()

    @task(1)
    def lose_the_network(self) -> None:
        if self.ensure_connected():
            self.drop(random.uniform(1, 10))


class Phone(StreamUser):
    """An application that is used for a minute, put away, and used again."""

    weight = 1
    pause = between(20, 60)

    @task(1)
    def stay(self) -> None:
        if self.ensure_connected():
            self.ping()

    @task(1)
    def put_away(self) -> None:
        if self.ensure_connected():
            self.drop(random.expovariate(1 / 60))
