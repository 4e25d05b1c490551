"""Checking tokens while keys rotate: no valid token is refused for good."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from energyws.auth.claims import TokenRefused
from energyws.auth.verifier import Verifier
from energyws.errors import KEYS_UNAVAILABLE, UNAUTHORIZED, ErrorCode
from energyws.process import counters
from energyws.process.board import Board, Field, Row, issuer_id
from energyws.settings import Auth
from energyws.settings import Issuer as Trusted
from energyws.testing import eventually
from energyws.testing.issuer import Issuer
from workers.websocket.auth import keys as module
from workers.websocket.auth.tokens import Tokens

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


def trusting(*issuers: Issuer) -> Auth:
    trusted = (Trusted(name=each.kid, issuer=each.name, jwks_url=each.url) for each in issuers)
    return Auth(issuers=tuple(trusted), jwks_refresh_seconds=3600.0)


@contextmanager
def tokens_of(row: Row, *issuers: Issuer, fetched: Callable[[], None] = lambda: None) -> Any:
    """The Tokens of a worker that trusts these issuers, once it has their keys."""
    tokens = Tokens(trusting(*issuers), row, fetched)
    try:
        for each in issuers:
            eventually(lambda each=each: check(tokens, each.token()) is None, "keys of the issuer")
        yield tokens
    finally:
        tokens.close()


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
        tokens = Tokens(trusting(issuer, late), row, lambda: notices.append(True))
        try:
            eventually(lambda: notices, "a notice of fetched keys")
            assert tokens.publish()
            ages = row.issuers()
            assert began * 1000 - 1 <= ages[issuer_id(issuer.name)] <= time.time() * 1000
            assert ages[issuer_id(late.name)] == 0
            assert row[Field.KEYLESS] == 0
        finally:
            tokens.close()


def test_without_any_key_no_token_can_be_checked(issuer: Issuer, row: Row) -> None:
    issuer.down = True
    tokens = Tokens(trusting(issuer), row, lambda: None)
    try:
        eventually(lambda: issuer.fetches, "a fetch")
        assert not tokens.publish()
        assert row[Field.KEYLESS] == 1
        settings = Auth(jwt_secret="s" * 32)
        tokens.use_settings(settings, Verifier(settings))
        assert tokens.publish()
        assert (row[Field.KEYLESS], row.issuers()) == (0, {})
    finally:
        tokens.close()


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
