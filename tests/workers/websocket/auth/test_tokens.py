"""Tokens checked while keys rotate: no good token is refused for good."""

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
    """The Tokens of a worker that trusts these, once it has their keys."""
    tokens = Tokens(trusting(*issuers), row, fetched)
    try:
        for each in issuers:
            eventually(lambda each=each: answer(tokens, each.token()) is None, "its keys are there")
        yield tokens
    finally:
        tokens.close()


def answer(tokens: Tokens, token: str) -> ErrorCode | None:
    """The error for a client with this token; None: it is admitted."""
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
def test_good_token_after_a_rotation_waits_and_is_admitted(
    issuer: Issuer, row: Row, how: str, named: bool
) -> None:
    with tokens_of(row, issuer) as tokens:
        ROTATIONS[how](issuer)
        good = issuer.token() if named else issuer.token(kid=None)
        assert answer(tokens, good) is KEYS_UNAVAILABLE
        answers: list[ErrorCode | None] = []

        def admitted() -> bool:
            answers.append(answer(tokens, good))
            return answers[-1] is None

        eventually(admitted, "it is admitted")
        assert set(answers) <= {KEYS_UNAVAILABLE, None}


def test_keys_are_fetched_at_the_end_of_the_limit_without_another_request(
    issuer: Issuer, row: Row
) -> None:
    with tokens_of(row, issuer) as tokens:
        fetches = issuer.fetches
        issuer.rotate()
        good = issuer.token()
        assert answer(tokens, good) is KEYS_UNAVAILABLE
        eventually(lambda: issuer.fetches > fetches, "it is fetched")
        eventually(lambda: answer(tokens, good) is None, "it is used")
        assert issuer.fetches == fetches + 1


@pytest.mark.parametrize("case", ["another key", "another id", "no id"])
def test_bad_token_is_refused_for_good_in_the_end(issuer: Issuer, row: Row, case: str) -> None:
    with Issuer("b", "ES256") as other, tokens_of(row, issuer) as tokens:
        kid = {"another key": issuer.jwk["kid"], "another id": "strange", "no id": None}[case]

        def bad() -> str:
            # Another one each time, as a client has whose token is a function.
            return other.token(kid=kid, iss=issuer.name, iat=int(time.time()), jti=time.time_ns())

        assert answer(tokens, bad()) is KEYS_UNAVAILABLE
        eventually(lambda: answer(tokens, bad()) is UNAUTHORIZED, "it is refused for good")
        assert answer(tokens, issuer.token()) is None


def test_key_that_another_token_named_first_is_looked_up_again(issuer: Issuer, row: Row) -> None:
    with Issuer("b", "ES256") as other, tokens_of(row, issuer) as tokens:
        # An attacker guesses the next id, and keeps on naming it.
        forged = other.token(kid="a-2", iss=issuer.name, sub="mallory")
        eventually(lambda: answer(tokens, forged) is UNAUTHORIZED, "it is refused for good")
        issuer.rotate()
        assert issuer.jwk["kid"] == "a-2"
        assert answer(tokens, issuer.token()) is KEYS_UNAVAILABLE
        eventually(lambda: answer(tokens, issuer.token()) is None, "it gets in")


def test_no_token_is_refused_for_good_while_keys_cannot_be_fetched(
    issuer: Issuer, row: Row
) -> None:
    with tokens_of(row, issuer) as tokens:
        before = issuer.token()
        issuer.down = True
        issuer.rotate()
        after, fetches = issuer.token(), issuer.fetches
        assert answer(tokens, after) is KEYS_UNAVAILABLE
        eventually(lambda: issuer.fetches > fetches + 1, "it is tried, and again")
        assert answer(tokens, after) is KEYS_UNAVAILABLE
        assert answer(tokens, before) is None
        issuer.down = False
        eventually(lambda: answer(tokens, after) is None, "it gets in")


def test_flood_of_unknown_ids_costs_other_clients_nothing(issuer: Issuer, row: Row) -> None:
    with Issuer("b", "RS256") as other, tokens_of(row, issuer, other) as tokens:
        good, fetches, began = issuer.token(), issuer.fetches, time.monotonic()
        strange = [other.token(kid=f"{n}", iss=issuer.name, sub=f"{n}") for n in range(300)]
        while (took := time.monotonic() - began) < 3 * LIMIT_SECONDS:
            assert {answer(tokens, each) for each in strange} <= {KEYS_UNAVAILABLE, UNAUTHORIZED}
            assert answer(tokens, good) is None
            assert answer(tokens, other.token()) is None
        assert issuer.fetches - fetches <= 1 + took / LIMIT_SECONDS
        assert other.fetches == 1


def test_new_issuer_has_no_keys_yet(issuer: Issuer, row: Row) -> None:
    with Issuer("b", "ES256") as late, tokens_of(row, issuer) as tokens:
        late.down = True
        settings = trusting(issuer, late)
        tokens.use_settings(settings, Verifier(settings))
        assert answer(tokens, late.token()) is KEYS_UNAVAILABLE
        assert answer(tokens, issuer.token()) is None
        late.down = False
        eventually(lambda: answer(tokens, late.token()) is None, "it gets in")


def test_the_age_of_each_issuer_s_keys_is_on_the_board(issuer: Issuer, row: Row) -> None:
    with Issuer("b", "ES256") as late:
        late.down = True
        told: list[bool] = []
        began = time.time()
        tokens = Tokens(trusting(issuer, late), row, lambda: told.append(True))
        try:
            eventually(lambda: told, "it says that something was fetched")
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
        eventually(lambda: issuer.fetches, "it is tried")
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
            assert answer(tokens, issuer.token(**claims)) is UNAUTHORIZED
        assert answer(tokens, "x") is UNAUTHORIZED
        after = counters.TOKEN_REFUSALS.read(row.columns())
    more = {labels: after[labels] - count for labels, count in before.items()}
    assert {labels: count for labels, count in more.items() if count} == {
        ("claims", "sub"): 2,
        ("claims", "streams"): 1,
        ("claims", "nbf"): 1,
        ("malformed", ""): 1,
    }
