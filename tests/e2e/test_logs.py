"""The log of the real service: the clients it names, the secrets it omits, and its volume."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import jwt
import orjson
import pytest
from websockets.exceptions import InvalidStatus

from energyws.auth.verifier import mint
from energyws.testing import SECRET, Records, Service, eventually, token
from tests.clients import (
    bare_socket,
    masked,
    open_peer,
    response_head,
    upgrade_request,
)

pytestmark = pytest.mark.e2e

Serve = Callable[..., Service]

ADMIN_TOKEN = "the-admins-own-token"
KEY_PASSWORD = "a-password-for-the-broker"
OTHER_SECRET = "another-secret-of-more-than-thirty-two-bytes"


def ask(service: Service, level: object, **headers: str) -> tuple[int, Any]:
    """POST /log."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.admin_port}/log",
        orjson.dumps({"level": level}),
        {"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def field(line: str, name: str) -> str:
    """The value of a field in a line of text."""
    (value,) = re.findall(rf" {name}=(\"[^\"]*\"|\S+)", line)
    return str(value)


@pytest.fixture
def quick(serve: Serve) -> Service:
    """One worker, ready, at the usual level."""
    return serve(server={"workers": 1}).ready()


@pytest.mark.parametrize("form", ["text", "json"])
def test_lines_that_operators_of_energy_ws_search_for(serve: Serve, form: str) -> None:
    service = serve(log={"format": form}).ready()
    for number in range(3):
        open_peer(
            service, additional_headers={"Authorization": f"Bearer {token(f'client-{number}')}"}
        ).close()
    eventually(lambda: len(service.logged("disconnected")) == 3, "three disconnections are logged")
    # As the README of energy-ws does with the output of `kubectl logs`.
    for event in ("WebSocket client connected", "WebSocket client disconnected"):
        found = subprocess.run(
            ["grep", event], input="\n".join(service.lines), capture_output=True, text=True
        ).stdout.splitlines()
        assert len(found) == 3
        assert sorted(re.findall(r"client-\d", "".join(found))) == [f"client-{n}" for n in range(3)]


def test_every_line_is_json_with_the_same_first_keys(serve: Serve) -> None:
    service = serve(log={"format": "json", "level": "DEBUG"}).ready()
    hostile = 'x"\n2026-11-23T14:30:20.123Z ERROR worker-0 forged\x1b[2K\u2028\u202e'
    open_peer(service, additional_headers={"Authorization": f"Bearer {token(hostile)}"}).close()
    service.wait_logged("WebSocket client disconnected")
    lines = [json.loads(line) for line in service.lines]
    assert all(list(line)[:5] == ["time", "level", "process", "logger", "event"] for line in lines)
    (connected,) = [line for line in lines if line["event"] == "WebSocket client connected"]
    assert connected["subject"] == hostile
    assert all(line.isprintable() for line in service.lines)


def test_hostile_subject_stays_within_its_field(quick: Service) -> None:
    hostile = 'x" client=7\n2026-11-23T14:30:20.123Z ERROR worker-0 forged\x1b[2K\u2028'
    open_peer(quick, additional_headers={"Authorization": f"Bearer {token(hostile)}"}).close()
    quick.wait_logged("WebSocket client disconnected")
    lines = quick.logged("forged")
    assert len(lines) == 2
    assert all(re.match(r"\S+Z INFO worker-0 WebSocket client ", line) for line in lines)
    assert all(line.isprintable() for line in quick.lines)
    assert all(re.match(r"\S+Z [A-Z]+ (supervisor|consumer|worker-0) ", x) for x in quick.lines)


def test_lines_of_one_client_have_the_same_number(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1}, history={"max_frames": 50, "warm": 5}).ready()
    records.send(3)
    service.caught_up(records)
    bearer = f"Authorization: Bearer {token('slow')}"
    with bare_socket(service) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.sendall(upgrade_request(service, bearer, query="?subscribe=energy&last=2"))
        assert " 101 " in response_head(client)
        connected = service.wait_logged("WebSocket client connected", "subject=slow")
        resumes = service.wait_logged("client resumes", "subject=slow", "replayed=2")
        # More than the buffers of a socket and the memory of the worker hold.
        # In small steps: a client does not skip what the worker itself has not read yet.
        for _ in range(40):
            records.send(10, pad="x" * 20_000)
            service.caught_up(records)
        lags = service.wait_logged("client lags", "subject=slow")
        client.settimeout(20.0)
        received = b""
        while b'"lagged"' not in received:
            received = received[-20:] + client.recv(1 << 20)
        skips = service.wait_logged("client skips frames", "subject=slow", "stream=energy")
        client.sendall(masked(8, (1000).to_bytes(2, "big")))
        client.shutdown(socket.SHUT_WR)
        disconnected = service.wait_logged("WebSocket client disconnected", "subject=slow")
    assert int(field(skips, "frames")) > 0
    assert (field(disconnected, "code"), field(disconnected, "by")) == ("1000", "client")
    lines = (connected, resumes, lags, skips, disconnected)
    assert len({field(line, "client") for line in lines}) == 1


def test_resuming_with_a_gap_says_why(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1}).ready()
    records.send(3)
    service.caught_up(records)
    with open_peer(service) as peer:
        peer.subscribe(resume={"energy": "dead-1.1.1"})
        line = service.wait_logged("client cannot resume without a gap")
    assert field(line, "subject") == "tester"
    assert field(line, "reason") == "EPOCH_CHANGED"


def refused_tokens() -> dict[str, str]:
    """One token for each reason to refuse it."""
    soon = int(time.time()) + 3600
    return {
        "wrong key": mint(OTHER_SECRET, "wrong-key", 3600, time.time()),
        "expired": mint(SECRET, "expired-one", 10, time.time() - 86400),
        "too early": jwt.encode({"sub": "early", "exp": soon, "nbf": soon - 60}, SECRET),
        "no subject": jwt.encode({"exp": soon, "name": "nobody-in-particular"}, SECRET),
        "cut": mint(SECRET, "cut-off", 3600, time.time())[:-9],
        "long": "eyJhbGciOiJIUzI1NiJ9." + "longer" * 1_500 + ".longer-signature",
        "no token": "this-is-not-a-token-at-all",
        "hostile": "eyJhbGciOiJIUzI1NiJ9\x1b[2K.forged-payload.forged-signature",
    }


def test_no_token_or_secret_ever_reaches_the_log(serve: Serve, records: Records) -> None:
    service = serve(
        log={"level": "DEBUG"},
        admin={"token": ADMIN_TOKEN},
        kafka={"options": {"fetch.wait.max.ms": 5, "ssl.key.password": KEY_PASSWORD}},
    ).ready()
    good = {way: token(f"by-{way}") for way in ("header", "query", "subprotocol", "renewal")}
    refused = refused_tokens()
    # The three places for a token, a renewal, and invalid messages.
    open_peer(service, additional_headers={"Authorization": f"Bearer {good['header']}"}).close()
    open_peer(service, query=f"?token={good['query']}", additional_headers={}).close()
    open_peer(
        service, subprotocols=["energyws", f"bearer.{good['subprotocol']}"], additional_headers={}
    ).close()
    with open_peer(service) as peer:
        renewed = token("tester", 7200)
        assert peer.ask({"type": "auth", "token": renewed})["type"] != "error"
        assert peer.ask({"type": "auth", "token": good["renewal"]})["type"] == "error"
        # A frame that is too long would end the connection.
        for bad in (each for name, each in refused.items() if name != "long"):
            assert peer.ask({"type": "auth", "token": bad})["type"] == "error"
        assert peer.ask(f'{{"type": "auth", "token": "{good["renewal"]}"')["type"] == "error"
    for bad in refused.values():
        safe = quote(bad)
        for request in (
            upgrade_request(service, f"Authorization: Bearer {bad}"),
            upgrade_request(service, "Authorization:", query=f"?token={safe}"),
            upgrade_request(
                service, "Authorization:", f"Sec-WebSocket-Protocol: energyws, bearer.{bad}"
            ),
            # A browser is upgraded, and refused by a message.
            upgrade_request(service, "Origin: https://x.example", f"Authorization: Bearer {bad}"),
            # Another path, a broken header, no HTTP, and an invalid extension beside the token.
            f"GET /elsewhere?token={safe} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
            f"GET /ws/energy?token={safe} HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n".encode(),
            f"{bad}\r\n\r\n".encode(),
            upgrade_request(service, "Sec-WebSocket-Extensions: ;;;", query=f"?token={safe}"),
        ):
            with bare_socket(service) as client:
                client.sendall(request)
                response_head(client)
    # The admin port, and a reload.
    assert ask(service, "DEBUG")[0] == 401
    assert ask(service, "DEBUG", Authorization=f"Bearer {good['header']}")[0] == 401
    assert ask(service, "DEBUG", Authorization=f"Bearer {ADMIN_TOKEN}")[0] == 200
    service.signal(signal.SIGHUP)
    service.wait_logged("reloaded")
    assert service.stop() == 0

    # The log does have lines about these clients.
    assert len(service.logged("WebSocket client connected")) == 4
    reasons = {field(line, "reason") for line in service.logged("connection refused")}
    assert reasons >= {"signature", "expired", "not_yet_valid", "claims", "malformed", "too_long"}
    assert service.logged("connection refused", "reason=expired", "subject=expired-one")
    assert service.logged(" DEBUG ", "request refused")
    output = "\n".join(service.lines)
    secrets = [SECRET, OTHER_SECRET, ADMIN_TOKEN, KEY_PASSWORD]
    for each in [*good.values(), renewed, *refused.values()]:
        # Skip the first of a token's three parts: it is the same in all of them.
        secrets += [each, quote(each), *each.split(".")[1:]]
    secrets.append("eyJ")
    assert [secret for secret in secrets if secret[:24] in output] == []
    # The log must not name the claimed subject of a token that could not be verified.
    assert not service.logged("wrong-key")


def refused_request(service: Service) -> None:
    """Send a request whose refusal a worker logs at level DEBUG only."""
    with bare_socket(service) as client:
        client.sendall(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n")
        response_head(client)


def test_level_changes_in_all_processes(serve: Serve) -> None:
    service = serve().ready()
    pids = {name: child.pid for name, child in service.children().items()}
    assert ask(service, "DEBUG") == (200, {"level": "DEBUG", "before": "INFO"})
    line = service.wait_logged("log level changed")
    assert line.endswith(
        ' INFO supervisor log level changed trigger="POST /log" now=DEBUG before=INFO'
    )

    def workers_at_debug() -> set[str]:
        refused_request(service)
        return {line.split()[2] for line in service.logged(" DEBUG ", "request refused")}

    eventually(lambda: workers_at_debug() == {"worker-0", "worker-1"}, "both workers log at DEBUG")
    # A worker that starts later does so too.
    service.children()["worker-1"].kill()
    service.wait_logged("child started", "child=worker-1", "restarts=1")
    before = len(service.lines)
    eventually(
        lambda: (
            refused_request(service) or any(" DEBUG worker-1 " in x for x in service.lines[before:])
        ),
        "the new worker logs at DEBUG",
    )
    # A higher level leaves only errors, and the line about the change.
    assert ask(service, "ERROR")[1] == {"level": "ERROR", "before": "DEBUG"}
    service.wait_logged("log level changed", "now=ERROR before=DEBUG")
    eventually(lambda: _quiet(service), "the workers log no more lines")
    after = {name: child.pid for name, child in service.children().items()}
    assert {name for name in pids if pids[name] != after[name]} == {"worker-1"}
    # A reload restores the configured level.
    service.signal(signal.SIGHUP)
    service.wait_logged("log level changed", "trigger=SIGHUP now=INFO before=ERROR")
    open_peer(service).close()
    service.wait_logged("WebSocket client connected", "subject=tester")


def _quiet(service: Service) -> bool:
    """Whether a client connects and disconnects without a line in the log."""
    before = len(service.lines)
    open_peer(service).close()
    refused_request(service)
    time.sleep(0.2)
    return len(service.lines) == before


def test_level_changes_from_the_command_line(quick: Service) -> None:
    command = [sys.executable, "-m", "energyws.cli", "log", "debug"]
    admin = f"http://127.0.0.1:{quick.admin_port}"
    done = subprocess.run(
        [*command, "--config", str(quick.config_path), "--admin", admin],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, "log level: INFO before, DEBUG now\n")
    quick.wait_logged("log level changed", "now=DEBUG before=INFO")


@pytest.mark.parametrize("level", ["debug", "LOUD", "", None, 10, True, ["DEBUG"], {}])
def test_level_that_does_not_exist_changes_nothing(
    shared: tuple[Service, Records], level: object
) -> None:
    service, _ = shared
    status, answer = ask(service, level)
    assert status == 400
    assert answer == {"error": 'send {"level": L} with L one of DEBUG, INFO, WARNING, ERROR'}
    assert not service.logged("log level changed")


def test_command_line_accepts_only_the_four_levels() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "energyws.cli", "log", "loud"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "DEBUG" in done.stderr


def test_flood_of_refusals_is_limited_by_kind_and_counted_to_the_last(quick: Service) -> None:
    expired = mint(SECRET, "me", 10, time.time() - 86400)
    forged = mint(OTHER_SECRET, "me", 3600, time.time())
    sent: Counter[str] = Counter()
    began = time.monotonic()
    for number in range(600):
        reason, bad = ("expired", expired) if number % 3 else ("signature", forged)
        with pytest.raises(InvalidStatus):
            open_peer(quick, additional_headers={"Authorization": f"Bearer {bad}"})
        sent[reason] += 1
    took = time.monotonic() - began

    def logged_counts() -> Counter[str]:
        found: Counter[str] = Counter()
        for line in quick.logged("connection refused"):
            held = int(field(line, "held_back")) if "held_back=" in line else 0
            found[field(line, "reason")] += held + 1
        return found

    # No refusal follows, and the last ones are still counted soon.
    eventually(lambda: logged_counts() == sent, f"{sent} in the log", 5.0)
    for reason in sent:
        lines = quick.logged("connection refused", f"reason={reason}")
        assert 2 <= len(lines) <= took + 3
