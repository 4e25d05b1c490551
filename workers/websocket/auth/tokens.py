"""Checks the tokens of a worker's clients, at a handshake and at a renewal."""

from __future__ import annotations

import time
from collections.abc import Callable

from energyws.auth.claims import TokenRefused
from energyws.auth.unknown_keys import UnknownKeys
from energyws.auth.verifier import Principal, Verifier
from energyws.process.board import Field, Row, issuer_id
from energyws.process.counters import TOKEN_REFUSALS
from energyws.settings import Auth
from workers.websocket.auth.keys import KeyStore


class Tokens:
    """Checks tokens with the keys at hand, and has unknown keys fetched.

    fetched: called in another thread whenever an issuer's keys have been fetched. row: where
    refusals are counted. Raises BootError for a secret that cannot be used.
    """

    def __init__(self, settings: Auth, row: Row, fetched: Callable[[], None]) -> None:
        self._settings = settings
        self._verifier = Verifier(settings)
        self._row = row
        self._unknown_keys = UnknownKeys()
        self._keys = KeyStore(settings, fetched)

    def use_settings(self, settings: Auth, verifier: Verifier) -> None:
        """Use these settings from now on, and the verifier that was made from them."""
        self._settings, self._verifier = settings, verifier
        self._keys.use_settings(settings)

    def close(self) -> None:
        """Fetch no further keys."""
        self._keys.close()

    def publish(self) -> bool:
        """Write the age of the keys to the board; returns whether any token can be checked."""
        issuers, fetches = self._settings.issuers, self._keys.known.fetches
        self._row.set_issuers(
            (issuer_id(name), int(fetches[name].ended * 1000) if name in fetches else 0)
            for name in (each.issuer for each in issuers)
        )
        able = not issuers or bool(fetches)
        self._row[Field.KEYLESS] = int(not able)
        return able

    def check(self, token: str) -> Principal:
        """The token's principal. Raises TokenRefused, `keys_pending` if it may be good."""
        known = self._keys.known
        try:
            return self._verifier.verify(token, known.keys, now=time.time())
        except TokenRefused as refused:
            if refused.issuer is not None and refused.unknown_key is not None:
                fetch = known.fetches.get(refused.issuer)
                began = None if fetch is None else fetch.began
                now = time.monotonic()
                confirmed = self._unknown_keys.is_confirmed(refused.unknown_key, began, now)
                refused.keys_pending = not confirmed
                # After the key was noted, so that a fetch that begins from now on counts for it.
                self._keys.refresh_soon(refused.issuer)
            TOKEN_REFUSALS.count(self._row, refused.reason, refused.claim or "")
            raise
