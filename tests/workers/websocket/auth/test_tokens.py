"""Checking tokens while keys rotate: no valid token is refused for good."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from energyws.auth.claims import TokenRefused
from energyws.auth.denied import Denied, Entry
from energyws.auth.verifier import Verifier, mint
from energyws.errors import KEYS_UNAVAILABLE, UNAUTHORIZED, ErrorCode
from energyws.process import counters
from energyws.process.board import Board, Field, Keyless, Row, issuer_id
from energyws.settings import Auth
from energyws.settings import Issuer as Trusted
from energyws.testing import eventually
from energyws.testing.issuer import Issuer
from workers.websocket.auth import keys as module
from workers.websocket.auth.tokens import Fault, Tokens

LIMIT_SECONDS = 0.5


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH_LIMIT_SECONDS", LIMIT_SECONDS)
    monkeypatch.setattr(module, "RETRY_FIRST_SECONDS", 0.05)
    monkeypatch.setattr(module, "RETRY_MAX_SECONDS", 0.1)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer("a", "ES256") as issuer:
        yield issuer


@pytest.fixture
def row() -> Iterator[Row]:
    board = Board.create()
    yield board.row(0)
    board.close()


def trusting(*issuers: Issuer, **more: Any) -> Auth:
    trusted = (Trusted(name=each.kid, issuer=each.name, jwks_url=each.url) for each in issuers)
    return Auth(issuers=tuple(trusted), **{"jwks_refresh_seconds": 3600.0, **more})


@contextmanager
def made(settings: Auth, row: Row, changed: Callable[[], None] = lambda: None) -> Any:
    """The Tokens of a worker with these settings."""
    with TemporaryDirectory() as directory:
        tokens = Tokens(settings, row, Path(directory), changed)
        try:
            yield tokens
        finally:
            tokens.close()
            # They write into the directory.
            eventually(lambda: not fetching(), "the threads end")


def fetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "keys"]


@contextmanager
def tokens_of(row: Row, *issuers: Issuer, **more: Any) -> Any:
    """The Tokens of a worker that trusts these issuers, once it has their keys."""
    with made(trusting(*issuers, **more), row) as tokens:
        for each in issuers:
            eventually(lambda each=each: check(tokens, each.token()) is None, "keys of the issuer")
        yield tokens


def check(tokens: Tokens, token: str) -> ErrorCode | None:
    """The error for a client with this token; None if the token is accepted."""
    try:
        tokens.check(token)
    except TokenRefused as refused:
        return refused.error
    return None


ROTATIONS: dict[str, Callable[[Issuer], None]] = {
    "a new id": lambda issuer: issuer.rotate(),
    "the same id": lambda issuer: issuer.rotate(same_kid=True),
    "the same id, another algorithm": lambda issuer: issuer.rotate("RS256", same_kid=True),
}


@pytest.mark.parametrize("named", [True, False], ids=["kid", "no kid"])
@pytest.mark.parametrize("how", ROTATIONS)
def test_valid_token_after_a_rotation_is_accepted_after_a_wait(
    issuer: Issuer, row: Row, how: str, named: bool
) -> None:
    with tokens_of(row, issuer) as tokens:
        ROTATIONS[how](issuer)
        good = issuer.token() if named else issuer.token(kid=None)
        assert check(tokens, good) is KEYS_UNAVAILABLE
        results: list[ErrorCode | None] = []

        def accepted() -> bool:
            results.append(check(tokens, good))
            return results[-1] is None

        eventually(accepted, "the token is accepted")
        assert set(results) <= {KEYS_UNAVAILABLE, None}


def test_keys_are_fetched_at_the_end_of_the_limit_without_another_request(
    issuer: Issuer, row: Row
) -> None:
    with tokens_of(row, issuer) as tokens:
        fetches = issuer.fetches
        issuer.rotate()
        good = issuer.token()
        assert check(tokens, good) is KEYS_UNAVAILABLE
        eventually(lambda: issuer.fetches > fetches, "another fetch")
        eventually(lambda: check(tokens, good) is None, "the token is accepted")
        assert issuer.fetches == fetches + 1


@pytest.mark.parametrize("case", ["another key", "another id", "no id"])
def test_bad_token_is_finally_refused_for_good(issuer: Issuer, row: Row, case: str) -> None:
    with Issuer("b", "ES256") as other, tokens_of(row, issuer) as tokens:
        kid = {"another key": issuer.jwk["kid"], "another id": "strange", "no id": None}[case]

        def bad() -> str:
            # A new token each time, like a client with a token function.
            return other.token(kid=kid, iss=issuer.name, iat=int(time.time()), jti=time.time_ns())

        assert check(tokens, bad()) is KEYS_UNAVAILABLE
        eventually(lambda: check(tokens, bad()) is UNAUTHORIZED, "refused for good")
        assert check(tokens, issuer.token()) is None


def test_key_first_named_by_a_forged_token_is_looked_up_again(issuer: Issuer, row: Row) -> None:
    with Issuer("b", "ES256") as other, tokens_of(row, issuer) as tokens:
        # An attacker guesses the next key id, and sends it again and again.
        forged = other.token(kid="a-2", iss=issuer.name, sub="mallory")
        eventually(lambda: check(tokens, forged) is UNAUTHORIZED, "refused for good")
        issuer.rotate()
        assert issuer.jwk["kid"] == "a-2"
        assert check(tokens, issuer.token()) is KEYS_UNAVAILABLE
        eventually(lambda: check(tokens, issuer.token()) is None, "the token is accepted")


def test_no_token_is_refused_for_good_while_keys_cannot_be_fetched(
    issuer: Issuer, row: Row
) -> None:
    with tokens_of(row, issuer) as tokens:
        before = issuer.token()
        issuer.down = True
        issuer.rotate()
        after, fetches = issuer.token(), issuer.fetches
        assert check(tokens, after) is KEYS_UNAVAILABLE
        eventually(lambda: issuer.fetches > fetches + 1, "two more fetches")
        assert check(tokens, after) is KEYS_UNAVAILABLE
        assert check(tokens, before) is None
        issuer.down = False
        eventually(lambda: check(tokens, after) is None, "the token is accepted")


def test_flood_of_unknown_ids_does_not_affect_other_clients(issuer: Issuer, row: Row) -> None:
    with Issuer("b", "RS256") as other, tokens_of(row, issuer, other) as tokens:
        good, fetches, began = issuer.token(), issuer.fetches, time.monotonic()
        strange = [other.token(kid=f"{n}", iss=issuer.name, sub=f"{n}") for n in range(300)]
        while (took := time.monotonic() - began) < 3 * LIMIT_SECONDS:
            assert {check(tokens, each) for each in strange} <= {KEYS_UNAVAILABLE, UNAUTHORIZED}
            assert check(tokens, good) is None
            assert check(tokens, other.token()) is None
        assert issuer.fetches - fetches <= 1 + took / LIMIT_SECONDS
        assert other.fetches == 1


def test_new_issuer_has_no_keys_yet(issuer: Issuer, row: Row) -> None:
    with Issuer("b", "ES256") as late, tokens_of(row, issuer) as tokens:
        late.down = True
        settings = trusting(issuer, late)
        tokens.use_settings(settings, Verifier(settings))
        assert check(tokens, late.token()) is KEYS_UNAVAILABLE
        assert check(tokens, issuer.token()) is None
        late.down = False
        eventually(lambda: check(tokens, late.token()) is None, "the token is accepted")


def test_age_of_the_keys_of_each_issuer_is_on_the_board(issuer: Issuer, row: Row) -> None:
    with Issuer("b", "ES256") as late:
        late.down = True
        notices: list[bool] = []
        began = time.time()
        with made(trusting(issuer, late), row, lambda: notices.append(True)) as tokens:
            eventually(lambda: notices, "a notice of fetched keys")
            assert tokens.publish()
            ages = row.issuers()
            assert began * 1000 - 1 <= ages[issuer_id(issuer.name)] <= time.time() * 1000
            assert ages[issuer_id(late.name)] == 0
            assert row[Field.KEYLESS] == Keyless.NO


def test_without_any_key_no_token_can_be_checked(issuer: Issuer, row: Row) -> None:
    issuer.down = True
    with made(trusting(issuer), row) as tokens:
        eventually(lambda: issuer.fetches, "a fetch")
        assert not tokens.publish()
        assert row[Field.KEYLESS] == Keyless.NEVER
        settings = Auth(jwt_secret="s" * 32)
        tokens.use_settings(settings, Verifier(settings))
        assert tokens.publish()
        assert (row[Field.KEYLESS], row.issuers()) == (0, {})


def test_secret_beside_issuers_needs_no_key_of_theirs(issuer: Issuer, row: Row) -> None:
    issuer.down = True
    moving = trusting(issuer, jwt_secret="s" * 32, jwt_secret_beside_issuers=True)
    with made(moving, row) as tokens:
        assert tokens.publish()
        assert check(tokens, mint("s" * 32, "me", 60, time.time())) is None
        assert check(tokens, issuer.token()) is KEYS_UNAVAILABLE


def test_keys_that_are_too_old_check_no_token(issuer: Issuer, row: Row) -> None:
    changes: list[bool] = []
    brief = trusting(issuer, jwks_refresh_seconds=0.05, jwks_max_stale_seconds=0.3)
    with made(brief, row, lambda: changes.append(True)) as tokens:
        eventually(lambda: check(tokens, issuer.token()) is None, "keys of the issuer")
        accepted = tokens.check(issuer.token())
        issuer.down = True
        eventually(lambda: check(tokens, issuer.token()) is KEYS_UNAVAILABLE, "keys are too old")
        assert not tokens.publish()
        assert row[Field.KEYLESS] == Keyless.OLD
        # Whoever is connected stays: nobody knows that the key was removed.
        assert tokens.fault(accepted) is None
        issuer.down = False
        eventually(lambda: check(tokens, issuer.token()) is None, "keys are fetched again")
        assert tokens.publish()


def test_accepted_token_is_at_fault_once_its_key_is_removed(issuer: Issuer, row: Row) -> None:
    with tokens_of(row, issuer, jwks_refresh_seconds=0.05) as tokens:
        accepted = tokens.check(issuer.token())
        assert tokens.fault(accepted) is None
        fetches = issuer.fetches
        issuer.rotate()
        eventually(lambda: tokens.fault(accepted), "the removed key is noticed")
        assert issuer.fetches >= fetches + 2
        assert tokens.fault(accepted) == Fault("the key that signed the token counts no more", True)
        assert tokens.fault(tokens.check(issuer.token())) is None


def test_denied_token_is_refused_and_says_so(issuer: Issuer, row: Row) -> None:
    with tokens_of(row, issuer) as tokens:
        one, other = issuer.token(jti="1"), issuer.token(jti="2")
        accepted = tokens.check(one)
        tokens.denied = Denied([Entry("1", None, math.inf, None)])
        with pytest.raises(TokenRefused) as caught:
            tokens.check(one)
        refused = caught.value
        assert (refused.reason, refused.subject, refused.error) == ("denied", "me", UNAUTHORIZED)
        assert refused.detail == "the token has been revoked"
        assert tokens.fault(accepted) == Fault(refused.detail, False)
        assert check(tokens, other) is None
        assert counters.TOKEN_REFUSALS.read(row.columns())["denied", ""] == 1
        tokens.denied = Denied()
        assert check(tokens, one) is None


def test_doubtful_tokens_are_logged_once(
    issuer: Issuer, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "energyws.tokens")
    audience = "a token names an audience, but none is checked"
    long = "a token is valid for longer than a connection may last"
    with tokens_of(row, issuer) as tokens:
        for _ in range(3):
            tokens.check(issuer.token(aud="canary", jti=time.time_ns()))
        tokens.check(issuer.token(exp=1e10))
        assert [record.getMessage() for record in caplog.records] == [audience, long]
        settings = trusting(issuer, audience="me")
        tokens.use_settings(settings, Verifier(settings))
        tokens.check(issuer.token(aud="me"))
        assert len(caplog.records) == 2
    assert "canary" not in " ".join(repr(vars(record)) for record in caplog.records)


def test_refusals_are_counted_by_reason_and_claim(issuer: Issuer, row: Row) -> None:
    with tokens_of(row, issuer) as tokens:
        before = counters.TOKEN_REFUSALS.read(row.columns())
        for claims in ({"sub": 7}, {"streams": "energy"}, {"nbf": "now"}, {"sub": ""}):
            assert check(tokens, issuer.token(**claims)) is UNAUTHORIZED
        assert check(tokens, "x") is UNAUTHORIZED
        after = counters.TOKEN_REFUSALS.read(row.columns())
    more = {labels: after[labels] - count for labels, count in before.items()}
    assert {labels: count for labels, count in more.items() if count} == {
        ("claims", "sub"): 2,
        ("claims", "streams"): 1,
        ("claims", "nbf"): 1,
        ("malformed", ""): 1,
    }
