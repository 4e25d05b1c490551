"""Key fetching from a real HTTP server that can be down, slow, hostile or rotating."""

from __future__ import annotations

import json
import logging
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from energyws.auth.jwks import MAX_JWKS_BYTES
from energyws.settings import Auth, Issuer
from energyws.testing import eventually
from energyws.testing.certificates import write_pair
from workers.websocket.auth import keys as module
from workers.websocket.auth.keys import KeyStore

DEADLINE_SECONDS = 20.0
NEVER = 3600.0

Respond = Callable[[BaseHTTPRequestHandler], None]


until = partial(eventually, what="condition", seconds=DEADLINE_SECONDS, interval=0.002)


def jwks(*kids: str) -> bytes:
    entries = [
        OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key(), as_dict=True) | {"kid": kid}
        for kid in kids
    ]
    return json.dumps({"keys": entries}).encode()


def body(data: bytes, status: int = 200, **headers: str) -> Respond:
    def respond(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)

    return respond


class Endpoint:
    """A JWKS endpoint on its own port; refuses connections until it is `up`."""

    def __init__(self, respond: Respond, *, up: bool = True) -> None:
        self.respond = respond
        self.hits: list[float] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        # Set at the end of a test, to end waiting responses.
        self.ended = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoint.hits.append(time.monotonic())
                endpoint.paths.append(self.path)
                endpoint.headers.append(dict(self.headers.items()))
                try:
                    endpoint.respond(self)
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server.server_bind()
        self.port = self.server.server_address[1]
        self._serving: threading.Thread | None = None
        if up:
            self.up()

    def up(self) -> None:
        self.server.server_activate()
        self._serving = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._serving.start()

    def down(self) -> None:
        self.ended.set()
        if self._serving is not None:
            self.server.shutdown()
            self._serving.join()
            self._serving = None
        self.server.server_close()

    def url(self, path: str = "/jwks") -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint(body(jwks("1")))
    yield endpoint
    endpoint.down()


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "energyws.keys")
    return caplog


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(module, "RETRY_MAX_SECONDS", 0.1)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "keys"]


@contextmanager
def store(
    *urls: str,
    refresh: float = NEVER,
    timeout: float = 5.0,
    stale: float = NEVER,
    directory: Path | None = None,
    changed: Callable[[], None] = lambda: None,
) -> Iterator[KeyStore]:
    """A store of issuers "0", "1", …; waits for its threads to end. directory: not its own."""
    issuers = tuple(
        Issuer(name=f"name-{number}", issuer=str(number), jwks_url=url)
        for number, url in enumerate(urls)
    )
    auth = Auth(
        issuers=issuers,
        jwks_refresh_seconds=refresh,
        jwks_timeout_seconds=timeout,
        jwks_max_stale_seconds=stale,
    )
    before = set(threads())
    with TemporaryDirectory() as own:
        keys = KeyStore(auth, directory or Path(own), changed)
        try:
            yield keys
        finally:
            keys.close()
            until(lambda: not set(threads()) - before)


def kids(keys: KeyStore, issuer: str = "0") -> list[str | None]:
    return [key.kid for key in keys.keys.get(issuer, ())]


def events(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records]


def logged(log: pytest.LogCaptureFixture) -> str:
    """All log lines, with their fields."""
    return " ".join(repr(vars(record)) for record in log.records)


FETCHED, FAILED = "keys fetched", "keys cannot be fetched: trying again"


def test_keys_of_every_issuer_are_fetched(
    endpoint: Endpoint, log: pytest.LogCaptureFixture
) -> None:
    other = Endpoint(body(jwks("2", "3")))
    try:
        with store(endpoint.url(), other.url("/a/b?tenant=1")) as keys:
            until(lambda: len(keys.keys) == 2)
            assert (kids(keys, "0"), kids(keys, "1")) == (["1"], ["2", "3"])
            assert [thread.daemon for thread in threads()] == [True, True]
    finally:
        other.down()
    assert (endpoint.paths, other.paths) == (["/jwks"], ["/a/b?tenant=1"])
    assert endpoint.headers[0]["Accept"] == "application/json"
    assert events(log) == [FETCHED, FETCHED]


def test_without_issuers_there_is_no_thread() -> None:
    with store() as keys:
        assert threads() == []
        assert keys.keys == {}
        keys.refresh_soon("0")


def test_endpoint_that_is_down_at_the_start_is_retried_until_it_is_up(
    log: pytest.LogCaptureFixture,
) -> None:
    late = Endpoint(body(jwks("1")), up=False)
    try:
        with store(late.url()) as keys:
            until(lambda: FAILED in events(log))
            assert keys.keys == {}
            late.up()
            until(lambda: kids(keys) == ["1"])
    finally:
        late.down()
    # One line each, regardless of the number of attempts.
    assert events(log) == [FAILED, FETCHED]


def test_last_good_keys_are_kept_while_the_endpoint_is_down(
    endpoint: Endpoint, log: pytest.LogCaptureFixture
) -> None:
    up, down = endpoint.respond, body(b"gone", 500)
    with store(endpoint.url(), refresh=0.02) as keys:
        until(lambda: kids(keys) == ["1"])
        for lines in (2, 4):
            endpoint.respond = down
            tries = len(endpoint.hits)
            until(lambda tries=tries: len(endpoint.hits) > tries + 5)  # type: ignore[misc]
            assert kids(keys) == ["1"]
            assert len(events(log)) == lines
            endpoint.respond = up
            until(lambda lines=lines: len(events(log)) > lines)  # type: ignore[misc]
    # One line per change of state, not per attempt.
    assert events(log) == [FETCHED, FAILED, FETCHED, FAILED, FETCHED]


def test_retries_back_off(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> None:
    monkeypatch.setattr(module, "RETRY_FIRST_SECONDS", 0.05)
    monkeypatch.setattr(module, "RETRY_MAX_SECONDS", 0.4)
    endpoint.respond = body(b"", 503)
    with store(endpoint.url()):
        until(lambda: len(endpoint.hits) >= 6)
    pauses = [later - earlier for earlier, later in pairwise(endpoint.hits)]
    for pause, nominal in zip(pauses[:5], (0.05, 0.1, 0.2, 0.4, 0.4), strict=True):
        # On a busy machine, a retry may be late but never early.
        assert pause > nominal * (1 - module.JITTER) - 0.02


def test_silent_endpoint_delays_neither_the_caller_nor_other_issuers(
    endpoint: Endpoint, log: pytest.LogCaptureFixture
) -> None:
    def silence(request: BaseHTTPRequestHandler) -> None:
        silent.ended.wait()

    silent = Endpoint(silence)
    try:
        with store(silent.url(), endpoint.url(), timeout=3.0) as keys:
            until(lambda: bool(silent.hits))
            for _ in range(1000):
                keys.refresh_soon("0")
                assert kids(keys, "0") == []
            until(lambda: kids(keys, "1") == ["1"])
            # The fetch is still in progress: the caller did not wait for it.
            assert FAILED not in events(log)
            until(lambda: FAILED in events(log))
            assert kids(keys, "0") == []
    finally:
        silent.down()
    assert "timed out" in logged(log)


@pytest.mark.parametrize("where", ["headers", "body"])
def test_slow_endpoint_has_one_deadline_for_its_whole_response(
    endpoint: Endpoint, log: pytest.LogCaptureFixture, where: str
) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.0 200 OK\r\nA: " + b"\r\n\r\n" * (where == "body"))
        # Often enough that a timeout restarted by every byte would never end.
        while not dripping.ended.wait(0.02):
            request.wfile.write(b" ")

    dripping = Endpoint(drip)
    try:
        with store(dripping.url(), endpoint.url(), timeout=0.3) as keys:
            until(lambda: kids(keys, "1") == ["1"])
            assert kids(keys, "0") == []
    finally:
        dripping.down()
    assert "timed out" in logged(log) or "not complete within 0.3 s" in logged(log)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(
    endpoint: Endpoint, log: pytest.LogCaptureFixture, status: int
) -> None:
    redirecting = Endpoint(body(b"", status, Location=endpoint.url()))
    try:
        with store(redirecting.url()) as keys:
            until(lambda: len(redirecting.hits) > 1)
            assert keys.keys == {}
    finally:
        redirecting.down()
    assert endpoint.hits == []
    assert f"HTTP status {status}: redirects are not followed" in logged(log)


@pytest.mark.parametrize("length", [True, False], ids=["with a length", "without end"])
def test_huge_document_is_not_read_in_full(
    endpoint: Endpoint, log: pytest.LogCaptureFixture, length: bool
) -> None:
    written = 0

    def huge(request: BaseHTTPRequestHandler) -> None:
        nonlocal written
        request.send_response(200)
        if length:
            request.send_header("Content-Length", str(1 << 40))
        request.end_headers()
        written = 0
        while not endpoint.ended.is_set():
            written += request.wfile.write(b" " * 65536)

    endpoint.respond = huge
    with store(endpoint.url()) as keys:
        until(lambda: FAILED in events(log))
        assert keys.keys == {}
    assert f"more than {MAX_JWKS_BYTES} bytes" in logged(log)
    # The kernel buffers a few more megabytes.
    assert written < 64 << 20


BAD = {
    "not found": (body(b"", 404), "HTTP status 404"),
    "no content": (body(b"", 204), "HTTP status 204"),
    "HTML": (body(b"<html>"), "not a JWKS"),
    "no usable key": (body(b'{"keys":[{"kty":"oct","k":"AAAA"}]}'), "no RS256, ES256 or EdDSA"),
    "cut short": (body(jwks("1")[:-20]), "not a JWKS"),
    "not HTTP": (lambda request: None, "closed connection without"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_response_is_logged_and_retried(
    endpoint: Endpoint, log: pytest.LogCaptureFixture, name: str
) -> None:
    endpoint.respond, error = BAD[name]
    with store(endpoint.url()) as keys:
        until(lambda: len(endpoint.hits) > 2)
        assert keys.keys == {}
        endpoint.respond = body(jwks("1"))
        until(lambda: kids(keys) == ["1"])
        until(lambda: len(events(log)) == 2)
    assert error in logged(log)
    assert events(log) == [FAILED, FETCHED]


def test_regular_refresh_finds_new_keys_and_drops_old_ones(
    endpoint: Endpoint, log: pytest.LogCaptureFixture
) -> None:
    both, new = jwks("old", "new"), jwks("new")
    endpoint.respond = body(both)
    with store(endpoint.url(), refresh=0.02) as keys:
        until(lambda: kids(keys) == ["old", "new"])
        unchanged = len(endpoint.hits)
        until(lambda: len(endpoint.hits) > unchanged + 3)
        endpoint.respond = body(new)
        until(lambda: kids(keys) == ["new"])
    # Fetches without changes are not logged.
    assert events(log) == [FETCHED, FETCHED]


def test_unknown_key_is_looked_up_before_the_regular_refresh(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setattr(module, "REFRESH_LIMIT_SECONDS", 0.05)
    with store(endpoint.url()) as keys:
        until(lambda: kids(keys) == ["1"])
        endpoint.respond = body(jwks("1", "2"))
        keys.refresh_soon("0")
        until(lambda: kids(keys) == ["1", "2"])


def test_fifty_unknown_keys_cause_one_fetch(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setattr(module, "REFRESH_LIMIT_SECONDS", 1.0)
    both = jwks("1", "2")
    endpoint.respond = body(json.dumps({"keys": json.loads(both)["keys"][:1]}).encode())
    with store(endpoint.url()) as keys:
        until(lambda: kids(keys) == ["1"])
        endpoint.respond = body(both)
        for _ in range(50):
            keys.refresh_soon("0")
        until(lambda: kids(keys) == ["1", "2"])
        # The thread would start any outstanding fetch next.
        endpoint.respond = body(jwks("3"))
        until(lambda: time.monotonic() > endpoint.hits[1] + 1.2)
        assert kids(keys) == ["1", "2"]
    assert len(endpoint.hits) == 2
    assert endpoint.hits[1] - endpoint.hits[0] > 0.9


def test_flood_of_unknown_keys_is_limited(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setattr(module, "REFRESH_LIMIT_SECONDS", 0.3)
    # Before the first request, which the store makes at once.
    began = time.monotonic()
    with store(endpoint.url()) as keys:

        def flooded() -> bool:
            keys.refresh_soon("0")
            return len(endpoint.hits) >= 4

        until(flooded)
    assert time.monotonic() - began >= 3 * 0.3


def test_unknown_key_during_a_fetch_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setattr(module, "REFRESH_LIMIT_SECONDS", 0.0)
    release = threading.Event()

    def wait(request: BaseHTTPRequestHandler) -> None:
        release.wait(DEADLINE_SECONDS)
        body(jwks("1"))(request)

    endpoint.respond = wait
    with store(endpoint.url(), timeout=DEADLINE_SECONDS) as keys:
        until(lambda: len(endpoint.hits) == 1)
        keys.refresh_soon("0")
        endpoint.respond = body(jwks("2"))
        release.set()
        until(lambda: kids(keys) == ["2"])


def test_unknown_key_that_must_wait_uses_no_cpu(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setattr(module, "REFRESH_LIMIT_SECONDS", NEVER)
    with store(endpoint.url()) as keys:
        until(lambda: kids(keys) == ["1"])
        keys.refresh_soon("0")
        began = time.process_time()
        endpoint.ended.wait(0.5)
        assert time.process_time() - began < 0.25


def test_keys_are_replaced_and_never_changed(endpoint: Endpoint) -> None:
    with store(endpoint.url(), refresh=0.02) as keys:
        until(lambda: kids(keys) == ["1"])
        seen = keys.keys
        endpoint.respond = body(jwks("2"))
        until(lambda: kids(keys) == ["2"])
        assert [key.kid for key in seen["0"]] == ["1"]
        with pytest.raises(TypeError):
            seen["0"] = ()  # type: ignore[index]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/jwks?api_key=canary",
        "http://user:canary@127.0.0.1:1/jwks",
        "http://127.0.0.1:1/a b?api_key=canary",
        "http://127.0.0.1:1/é?api_key=canary",
        "http://127.0.0.1:99999/jwks?api_key=canary",
        "file:///dev/null?canary",
        "ftp://127.0.0.1:1/jwks?canary",
        "data:application/json,{}",
    ],
)
def test_url_that_cannot_be_fetched_is_logged_without_its_secrets(
    log: pytest.LogCaptureFixture, url: str
) -> None:
    with store(url) as keys:
        until(lambda: FAILED in events(log))
        assert keys.keys == {}
    assert "canary" not in logged(log)


def test_log_has_the_issuer_and_the_url_of_its_keys(
    log: pytest.LogCaptureFixture,
) -> None:
    with store("http://user:canary@127.0.0.1:1/jwks?api_key=canary"):
        until(lambda: FAILED in events(log))
    fields = vars(log.records[0])["energyws_fields"]
    assert fields["issuer"] == "name-0"
    assert fields["url"] == "http://127.0.0.1:1/jwks"
    assert "refused" in fields["reason"]
    assert fields["keys_kept"] == 0


@pytest.mark.parametrize("trusted", [True, False])
def test_https_needs_a_trusted_certificate(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trusted: bool
) -> None:
    pair = write_pair(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair["cert"], pair["key"])
    monkeypatch.setenv("SSL_CERT_FILE", pair["cert"] if trusted else str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    secure = Endpoint(body(jwks("1")), up=False)
    secure.server.socket = context.wrap_socket(secure.server.socket, server_side=True)
    secure.up()
    try:
        with store(secure.url().replace("http://", "https://")) as keys:
            if trusted:
                until(lambda: kids(keys) == ["1"])
            else:
                until(lambda: FAILED in events(log))
                assert keys.keys == {}
                assert "CERTIFICATE_VERIFY_FAILED" in logged(log)
    finally:
        secure.down()


@pytest.mark.parametrize("fetched", [True, False])
def test_close_ends_the_thread_at_any_time(endpoint: Endpoint, fetched: bool) -> None:
    for _ in range(25):
        # Leaving the block waits until the thread of the store has ended.
        with store(endpoint.url()) as keys:
            until(lambda keys=keys: not fetched or kids(keys) == ["1"])  # type: ignore[misc]


def test_changed_settings_keep_valid_keys(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setattr(module, "REFRESH_LIMIT_SECONDS", 0.0)
    monkeypatch.setattr(module, "RELOAD_SECONDS", 0.0)
    with store(endpoint.url()) as keys:
        until(lambda: kids(keys) == ["1"])
        endpoint.respond = body(jwks("2"))
        same = Issuer(name="name-0", issuer="0", jwks_url=endpoint.url())
        keys.use_settings(Auth(issuers=(same,), jwks_refresh_seconds=NEVER))
        assert kids(keys)
        until(lambda: kids(keys) == ["2"])
        # After a change of its URL, no key from an issuer's old URL is trusted.
        endpoint.respond = body({})
        keys.use_settings(Auth(issuers=(replace(same, jwks_url=endpoint.url("/other")),)))
        assert kids(keys) == []


def test_keys_of_added_issuers_are_fetched(endpoint: Endpoint) -> None:
    with store() as keys:
        one = Issuer(name="one", issuer="one", jwks_url=endpoint.url())
        keys.use_settings(Auth(issuers=(one,), jwks_refresh_seconds=NEVER))
        until(lambda: kids(keys, "one") == ["1"])
        keys.use_settings(Auth())
        assert keys.keys == {}


def test_workers_share_one_fetch(endpoint: Endpoint, tmp_path: Path) -> None:
    url = endpoint.url()
    with (
        store(url, directory=tmp_path) as one,
        store(url, directory=tmp_path) as other,
        store(url, directory=tmp_path) as third,
    ):
        until(lambda: all(kids(each) == ["1"] for each in (one, other, third)))
        assert one.known.fetches == other.known.fetches == third.known.fetches
    with store(url, directory=tmp_path) as later:
        until(lambda: kids(later) == ["1"])
    assert len(endpoint.hits) == 1


def test_worker_that_starts_while_the_endpoint_is_down_has_the_keys_of_the_others(
    endpoint: Endpoint, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    with store(endpoint.url(), directory=tmp_path) as one:
        until(lambda: kids(one) == ["1"])
        endpoint.respond = body(b"", 500)
        with store(endpoint.url(), directory=tmp_path) as other:
            until(lambda: kids(other) == ["1"])
    assert events(log) == [FETCHED]


def test_keys_that_one_worker_asks_for_reach_the_others(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "REFRESH_LIMIT_SECONDS", 0.05)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    with (
        store(endpoint.url(), directory=tmp_path) as one,
        store(endpoint.url(), directory=tmp_path) as other,
    ):
        until(lambda: kids(one) == kids(other) == ["1"])
        endpoint.respond = body(jwks("2"))
        one.refresh_soon("0")
        until(lambda: kids(one) == kids(other) == ["2"])
    assert len(endpoint.hits) == 2


def test_workers_take_turns_at_an_endpoint_that_fails(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "RETRY_FIRST_SECONDS", 0.2)
    monkeypatch.setattr(module, "RETRY_MAX_SECONDS", 0.2)
    endpoint.respond = body(b"", 500)
    with (
        store(endpoint.url(), directory=tmp_path),
        store(endpoint.url(), directory=tmp_path),
        store(endpoint.url(), directory=tmp_path),
    ):
        until(lambda: len(endpoint.hits) >= 4)
    # Together no more often than one worker would.
    assert endpoint.hits[3] - endpoint.hits[0] > 3 * 0.2 * (1 - module.JITTER) - 0.02


def test_fetch_for_all_goes_on_when_the_worker_that_fetches_ends(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    waiting = threading.Event()

    def never(request: BaseHTTPRequestHandler) -> None:
        waiting.set()
        endpoint.ended.wait()

    endpoint.respond = never
    script = (
        "import sys, time; from pathlib import Path; from energyws.settings import Auth, Issuer; "
        "from workers.websocket.auth.keys import KeyStore; url = sys.argv[1]; "
        "issuers = (Issuer(name='name-0', issuer='0', jwks_url=url),); "
        "KeyStore(Auth(issuers=issuers, jwks_timeout_seconds=600), Path(sys.argv[2])); "
        "time.sleep(600)"
    )
    first = subprocess.Popen([sys.executable, "-c", script, endpoint.url(), str(tmp_path)])
    try:
        assert waiting.wait(DEADLINE_SECONDS)
        endpoint.respond = body(jwks("1"))
        with store(endpoint.url(), directory=tmp_path) as other:
            endpoint.ended.wait(0.3)
            assert (len(endpoint.hits), kids(other)) == (1, [])
            first.kill()
            until(lambda: kids(other) == ["1"])
    finally:
        first.kill()
        first.wait()


def test_worker_without_a_directory_fetches_for_itself(endpoint: Endpoint, tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.touch()
    with store(endpoint.url(), refresh=0.02, directory=nowhere) as keys:
        until(lambda: kids(keys) == ["1"])
        endpoint.respond = body(jwks("2"))
        until(lambda: kids(keys) == ["2"])


def test_directory_may_be_cleaned_meanwhile(endpoint: Endpoint, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    with store(endpoint.url(), refresh=0.02, directory=directory) as keys:
        until(lambda: kids(keys) == ["1"])
        shutil.rmtree(directory, ignore_errors=True)
        endpoint.respond = body(jwks("2"))
        until(lambda: kids(keys) == ["2"])
        until(directory.exists)


def test_keys_that_cannot_be_refreshed_for_too_long_count_no_more(
    endpoint: Endpoint, log: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    up, changes = endpoint.respond, []
    with store(
        endpoint.url(),
        refresh=0.02,
        stale=0.3,
        directory=tmp_path,
        changed=lambda: changes.append(1),
    ) as keys:
        until(lambda: kids(keys) == ["1"])
        endpoint.respond = body(b"", 500)
        until(lambda: keys.keys == {})
        # The age of the last fetch stays known.
        (fetch,) = keys.known.fetches.values()
        assert time.monotonic() - fetch.began > 0.3
        counted = len(changes)
        assert counted >= 2
        # A worker that starts now does not use them either, although they are in the file.
        with store(endpoint.url(), refresh=0.02, stale=0.3, directory=tmp_path) as late:
            until(lambda: late.known.fetches != {})
            assert late.keys == {}
        endpoint.respond = up
        until(lambda: kids(keys) == ["1"])
    assert len([event for event in events(log) if event.startswith("keys are too old")]) == 1


def test_key_is_gone_for_good_only_when_a_second_fetch_confirms_it(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint
) -> None:
    monkeypatch.setattr(module, "REFRESH_LIMIT_SECONDS", 0.3)
    both = jwks("old", "new")
    without = json.dumps({"keys": json.loads(both)["keys"][1:]}).encode()

    def gone(keys: KeyStore) -> list[str | None]:
        return [key.kid for key in keys.known.gone.get("0", ())]

    endpoint.respond = body(both)
    with store(endpoint.url()) as keys:
        until(lambda: kids(keys) == ["old", "new"])
        # One of several servers has forgotten it.
        endpoint.respond = body(without)
        keys.refresh_soon("0")
        until(lambda: kids(keys) == ["new"])
        assert gone(keys) == ["old"]
        # The next fetch does not wait for the regular one.
        endpoint.respond = body(both)
        until(lambda: kids(keys) == ["old", "new"])
        assert gone(keys) == []
        endpoint.respond = body(without)
        keys.refresh_soon("0")
        until(lambda: kids(keys) == ["new"])
        fetches = len(endpoint.hits)
        assert gone(keys) == ["old"]
        until(lambda: gone(keys) == [])
        assert (kids(keys), len(endpoint.hits)) == (["new"], fetches + 1)


def test_equal_keys_stay_the_same_objects(endpoint: Endpoint) -> None:
    old, new = (json.loads(jwks(kid))["keys"][0] for kid in ("old", "new"))
    endpoint.respond = body(json.dumps({"keys": [old]}).encode())
    with store(endpoint.url(), refresh=0.02) as keys:
        until(lambda: kids(keys) == ["old"])
        before = keys.keys
        endpoint.respond = body(json.dumps({"keys": [new, old]}).encode())
        until(lambda: kids(keys) == ["new", "old"])
        assert keys.keys["0"][1] is before["0"][0]
        seen = keys.keys
        fetches = len(endpoint.hits)
        until(lambda: len(endpoint.hits) > fetches + 2)
        assert keys.keys is seen
