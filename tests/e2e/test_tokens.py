"""Keys and secrets that rotate: clients with a good token stay or get a connection."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.exceptions import InvalidStatus

from energyws.auth.verifier import mint
from energyws.client import Client, Reading, Refused
from energyws.control.policy.readiness import NO_KEYS
from energyws.testing import PATIENCE_SECONDS, SECRET, Records, Service, eventually, token
from energyws.testing.issuer import Issuer
from tests.clients import Peer, open_peer
from tests.http_clients import EventSource

# Less than the tests' own time limit.
RETRYING_SECONDS = 80.0

pytestmark = [pytest.mark.e2e, pytest.mark.edge]
Serve = Callable[..., Service]
PREVIOUS = "the-secret-of-yesterday-of-more-than-thirty-two-bytes"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer("a", "ES256") as issuer:
        yield issuer


def trusting(*issuers: Issuer, **more: Any) -> dict[str, Any]:
    """The `auth` section for these issuers."""
    listed = [{"name": each.kid, "issuer": each.name, "jwks_url": each.url} for each in issuers]
    return {"issuers": listed, **more}


def peer_with(service: Service, token: str) -> Peer:
    return open_peer(service, additional_headers={"Authorization": f"Bearer {token}"})


def status(service: Service, token: str) -> int:
    """The status of the answer to a client with this token."""
    try:
        with peer_with(service, token):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def metrics(service: Service) -> str:
    url = f"http://127.0.0.1:{service.admin_port}/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
        text: str = answer.read().decode()
    return text


def reloaded(service: Service, count: int) -> None:
    """Wait until every child has adopted new settings `count` times."""

    def everywhere() -> bool:
        boards = service.boards()
        return bool(boards) and all(board["reloads"] == count for board in boards.values())

    eventually(everywhere, f"{count} reloads")


async def first_reading(service: Service, records: Records, token: Callable[[], str]) -> Reading:
    """The first reading of energyws.client, which reconnects as often as needed.

    Its pauses are random and grow to 15 s, and a worker fetches keys only now and then.
    """

    async def write() -> None:
        while True:
            await asyncio.to_thread(records.send)
            await asyncio.sleep(0.1)

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(RETRYING_SECONDS), Client(service.url, token=token) as client:
            async for message in client:
                assert isinstance(message, Reading)
                return message
    finally:
        writing.cancel()
    raise AssertionError("the client has ended")


@pytest.mark.parametrize("same_kid", [False, True], ids=["new kid", "same kid"])
def test_our_client_connects_on_its_own_after_a_rotation(
    serve: Serve, records: Records, issuer: Issuer, same_kid: bool
) -> None:
    # One worker: a second one may fetch its first keys only after the rotation.
    service = serve(server={"workers": 1}, auth=trusting(issuer)).ready()
    # The worker fetched the keys a moment ago, and does not fetch them again so soon.
    issuer.rotate(same_kid=same_kid)

    assert asyncio.run(first_reading(service, records, issuer.token)).stream == "energy"
    assert service.logged("connection refused", "reason=signature" if same_kid else "unknown_key")


def test_our_client_finally_gives_up_with_a_key_that_is_not_the_issuers(
    serve: Serve, records: Records, issuer: Issuer
) -> None:
    # One worker: each has to fetch the keys once more before it refuses the token for good.
    service = serve(server={"workers": 1}, auth=trusting(issuer)).ready()
    with Issuer("b", "ES256") as other, pytest.raises(Refused, match="401"):
        asyncio.run(first_reading(service, records, lambda: other.token(iss=issuer.name)))
    assert status(service, issuer.token()) == 101


def test_a_rotation_refuses_no_good_token_permanently(serve: Serve, issuer: Issuer) -> None:
    service = serve(auth=trusting(issuer)).ready()
    with peer_with(service, issuer.token()) as connected:
        issuer.rotate()
        good, seen = issuer.token(), []

        def accepted() -> bool:
            seen.append(status(service, good))
            return seen[-1] == 101

        # A client that was connected before renews its token, and stays connected either way.
        renew = {"type": "auth", "token": good}
        assert connected.ask(renew)["code"] == "KEYS_UNAVAILABLE"
        # A browser, which sees no HTTP status.
        headers = {"Authorization": f"Bearer {good}", "Origin": "https://dashboard.example"}
        with open_peer(service, additional_headers=headers) as page:
            assert page.receive()["code"] == "KEYS_UNAVAILABLE"
            assert page.closed() == (4503, "try again later")
        eventually(accepted, "the token is accepted")
        eventually(lambda: connected.ask(renew)["type"] == "authenticated", "the token is renewed")
        assert set(seen) <= {503, 101}
        # It was asked for a fresh token meanwhile, since its key is gone.
        connected.send({"type": "ping"})
        assert connected.until("pong")


def test_service_without_keys_is_not_ready_and_says_why(serve: Serve, issuer: Issuer) -> None:
    issuer.down = True
    service = serve(server={"workers": 1}, auth=trusting(issuer))
    service.wait_logged("admin listening")
    eventually(lambda: service.admin("/ready") == (503, not_ready()), "/ready says why")
    assert status(service, issuer.token()) == 503
    name = 'energyws_issuer_keys_fetched_timestamp_seconds{issuer="a"}'
    assert f"{name} 0.0" in metrics(service)
    assert len(service.logged("keys cannot be fetched", "503")) == 1

    issuer.down = False
    service.ready()
    assert status(service, issuer.token()) == 101
    fetched = next(line for line in metrics(service).splitlines() if line.startswith(name))
    assert abs(time.time() - float(fetched.split()[-1])) < PATIENCE_SECONDS


def not_ready() -> dict[str, Any]:
    return {"ready": False, "reasons": [NO_KEYS]}


def test_service_with_the_keys_of_one_issuer_is_ready(serve: Serve, issuer: Issuer) -> None:
    with Issuer("b", "ES256") as late:
        late.down = True
        service = serve(server={"workers": 1}, auth=trusting(late, issuer)).ready()
        assert (status(service, issuer.token()), status(service, late.token())) == (101, 503)


def test_rolling_restart_needs_no_issuer(serve: Serve, issuer: Issuer) -> None:
    service = serve(server={"workers": 2}, auth=trusting(issuer)).ready()
    assert issuer.fetches == 1
    before = [child.pid for child in service.children().values()]
    issuer.down = True
    service.signal(signal.SIGUSR2)
    for name in ("worker-0", "worker-1"):
        service.wait_logged("child replaced", f"child={name}")
        # The successor has the keys that its predecessor fetched.
        assert status(service, issuer.token()) == 101
    assert not {child.pid for child in service.children().values()} & set(before)
    assert issuer.fetches == 1
    assert service.admin("/ready")[0] == 200


def streaming(service: Service, token: str) -> EventSource:
    return EventSource(service, "", f"Authorization: Bearer {token}")


def ended(peer: Peer) -> str:
    """Why the service has ended this connection."""
    error = peer.until("error")
    assert (error["code"], peer.closed()) == ("UNAUTHORIZED", (4401, "unauthorized"))
    return str(error["message"])


def test_removed_key_ends_the_connections_of_its_tokens(
    serve: Serve, records: Records, issuer: Issuer
) -> None:
    service = serve(auth=trusting(issuer, jwks_refresh_seconds=1)).ready()
    old = issuer.token()
    with peer_with(service, old) as first, peer_with(service, old) as renewed:
        with streaming(service, old) as events, peer_with(service, old) as second:
            assert events.until("subscribed")
            issuer.rotate()
            fresh = issuer.token()
            assert renewed.until("notice")["code"] == "TOKEN_EXPIRING"
            renewed.send({"type": "auth", "token": fresh})
            assert renewed.until("authenticated")
            for peer in (first, second):
                assert "the key that signed the token counts no more" in ended(peer)
            assert events.until("problem").json["code"] == "UNAUTHORIZED"
            assert events.next() is None
        assert renewed.ask({"type": "ping"})["type"] == "pong"
    assert service.logged("ending connections whose token counts no more")
    assert not service.logged(old)


def test_denied_tokens_end_and_are_refused(serve: Serve, records: Records, tmp_path: Path) -> None:
    denied = tmp_path / "denied"
    denied.write_text("# nobody yet\n")
    service = serve(server={"workers": 1}, auth={"denied_file": str(denied)}).ready()

    def token(subject: str, **claims: Any) -> str:
        payload = {"sub": subject, "exp": time.time() + 600, **claims}
        return jwt.encode(payload, SECRET, "HS256")

    now = int(time.time())
    stolen, other = token("me", jti="stolen"), token("me", jti="other")
    left, back = token("tenant", iat=now - 100), token("tenant", iat=now)
    with (
        peer_with(service, stolen) as thief,
        peer_with(service, other) as mine,
        streaming(service, left) as events,
        peer_with(service, back) as again,
    ):
        assert events.until("subscribed")
        denied.write_text(f'{{"jti": "stolen"}}\n{{"sub": "tenant", "before": {now}}}\n')
        assert "the token has been revoked" in ended(thief)
        assert events.until("problem").json["code"] == "UNAUTHORIZED"
        assert events.next() is None
        answer = mine.ask({"type": "auth", "token": stolen})
        assert (answer["code"], "revoked" in answer["message"]) == ("UNAUTHORIZED", True)
        assert again.ask({"type": "ping"})["type"] == "pong"
        assert (status(service, stolen), status(service, left)) == (401, 401)
        service.wait_logged("connection refused", "reason=denied")
        assert (status(service, other), status(service, back)) == (101, 101)

        # A damaged file frees nobody.
        denied.write_text("{")
        service.wait_logged("deny list has lines that cannot be used", "lines=1")
        denied.unlink()
        service.wait_logged("deny list not read")
        assert (status(service, stolen), status(service, other)) == (401, 101)
    denied.write_text("")
    eventually(lambda: status(service, stolen) == 101, "the entry is gone")
    assert not service.logged("stolen")


def test_tokens_are_denied_while_the_service_drains(serve: Serve, tmp_path: Path) -> None:
    denied = tmp_path / "denied"
    denied.touch()
    service = serve(
        server={"workers": 1, "drain_delay_seconds": 60}, auth={"denied_file": str(denied)}
    ).ready()
    mine = token("me")
    with peer_with(service, mine) as thief:
        service.signal(signal.SIGTERM)
        service.wait_logged("draining")
        denied.write_text('{"sub": "me"}\n')
        assert "the token has been revoked" in ended(thief)
        assert status(service, mine) == 401


def test_revocation_waits_for_no_reload(serve: Serve, tmp_path: Path) -> None:
    secret, denied = tmp_path / "secret", tmp_path / "denied"
    secret.write_text(SECRET)
    denied.write_text("")
    files = {"jwt_secret_file": str(secret), "denied_file": str(denied)}
    service = serve(server={"workers": 1}, auth=files).ready()
    mine = mint(SECRET, "me", 600, time.time())
    with peer_with(service, mine) as connected:
        secret.write_text("")
        service.wait_logged("reload refused", "auth.jwt_secret")
        denied.write_text('{"sub": "me"}')
        assert "the token has been revoked" in ended(connected)
    assert status(service, mine) == 401


def test_issuer_that_a_reload_brings_has_no_keys_at_first(
    serve: Serve, tmp_path: Path, issuer: Issuer
) -> None:
    service = serve(server={"workers": 1}, auth=trusting(issuer)).ready()
    with Issuer("b", "ES256") as late, peer_with(service, issuer.token()) as connected:
        late.down = True
        config = json.loads(service.config_path.read_text())
        service.config_path.write_text(json.dumps({**config, "auth": trusting(late)}))
        service.signal(signal.SIGHUP)
        reloaded(service, 1)
        eventually(lambda: service.admin("/ready") == (503, not_ready()), "/ready says why")
        assert status(service, late.token()) == 503
        assert status(service, issuer.token()) == 401
        # Its issuer is trusted no more.
        assert connected.until("notice")["code"] == "TOKEN_EXPIRING"
        late.down = False
        service.ready()
        assert status(service, late.token()) == 101


def test_secrets_rotate_with_an_overlap_that_ends(serve: Serve, tmp_path: Path) -> None:
    now, before = tmp_path / "now", tmp_path / "before"
    now.write_text(PREVIOUS)
    before.write_text("")
    files = {"jwt_secret_file": str(now), "jwt_secret_previous_file": str(before)}
    service = serve(server={"workers": 1}, auth=files).ready()
    old, new = (mint(secret, "me", 600, time.time()) for secret in (PREVIOUS, SECRET))
    assert (status(service, old), status(service, new)) == (101, 401)

    before.write_text(PREVIOUS)
    now.write_text(SECRET)
    eventually(lambda: status(service, new) == 101, "the new secret has taken effect")
    assert status(service, old) == 101

    with peer_with(service, old) as connected, peer_with(service, old) as renewed:
        assert renewed.ask({"type": "auth", "token": new})["type"] == "authenticated"
        before.write_text("")
        # The old token was accepted just now, so it is in the cache.
        eventually(lambda: status(service, old) == 401, "the old secret is no longer accepted")
        assert status(service, new) == 101
        assert "the key that signed the token counts no more" in ended(connected)
        assert renewed.ask({"type": "ping"})["type"] == "pong"
    assert not service.logged(PREVIOUS)
    assert not service.logged(SECRET)


def test_scopes_allow_streams_once_a_reload_says_so(serve: Serve, issuer: Issuer) -> None:
    service = serve(server={"workers": 1}, auth=trusting(issuer)).ready()
    energy, water = (issuer.token(scope=f"openid read:{name}") for name in ("energy", "water"))
    assert allowed(service, energy)
    assert allowed(service, water)

    config = json.loads(service.config_path.read_text())
    config["auth"]["scope_prefix"] = "read:"
    service.config_path.write_text(json.dumps(config))
    service.signal(signal.SIGHUP)
    reloaded(service, 1)
    assert allowed(service, energy)
    assert not allowed(service, water)


def allowed(service: Service, token: str) -> bool:
    """Whether this token may subscribe to energy."""
    with peer_with(service, token) as peer:
        peer.send({"type": "subscribe", "streams": ["energy"]})
        while True:
            reply = peer.receive()
            if reply["type"] == "subscribed":
                return True
            if reply.get("code") == "FORBIDDEN_STREAM":
                return False


def test_refusals_name_the_claim_without_its_value(serve: Serve, issuer: Issuer) -> None:
    service = serve(server={"workers": 1}, auth=trusting(issuer)).ready()
    assert status(service, issuer.token(sub=["canary"])) == 401
    service.wait_logged("connection refused", "reason=claims", "claim=sub")
    assert status(service, issuer.token(nbf="canary")) == 401
    # Another claim: the rate limit of the first does not hold it back.
    service.wait_logged("connection refused", "reason=claims", "claim=nbf")
    name = "energyws_token_refusals_total"
    assert f'{name}{{claim="sub",reason="claims"}} 1.0' in metrics(service)
    assert not service.logged("canary")
