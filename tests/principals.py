"""Owners of tokens, for tests that do not verify any."""

from __future__ import annotations

from energyws.auth.jwks import Key
from energyws.auth.key_rights import key_rights
from energyws.auth.token_cache import VerifiedClaims
from energyws.auth.verifier import Principal
from energyws.settings import Auth

KEY = Key(None, "HS256", b"a secret of more than thirty-two bytes")


def principal(
    subject: str = "tester",
    expires_at: float = 2e9,
    streams: frozenset[str] | None = None,
    *,
    issuer: str | None = None,
    issued: float | None = None,
    key: Key = KEY,
    id_: int | None = None,
    keys: object = None,
) -> Principal:
    """The owner of a token with these claims. keys: the claim of this name; None: it has none."""
    rights = None if keys is None else key_rights({"keys": keys}, Auth())
    token = VerifiedClaims(
        subject, expires_at, None, issued, streams, issuer, key, (key,), id_, rights
    )
    return Principal(token, expires_at)
