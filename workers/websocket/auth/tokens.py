"""Checks the tokens of a worker's clients: at a handshake, at a renewal, and later."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from energyws.auth.claims import DENIED_DETAIL, TokenRefused
from energyws.auth.denied import Denied
from energyws.auth.unknown_keys import UnknownKeys
from energyws.auth.verifier import Doubt, Principal, Verifier
from energyws.logs.events import Log
from energyws.process.board import Field, Keyless, Row, issuer_id
from energyws.process.counters import TOKEN_REFUSALS
from energyws.settings import Auth
from workers.websocket.auth.keys import KeyStore

_log = Log("tokens")


class Fault(NamedTuple):
    """Why a token that was accepted counts no more.

    detail: for its client. renewable: a fresh token would be good.
    """

    detail: str
    renewable: bool


_LOST_KEY: Final = Fault("the key that signed the token counts no more", True)
_DENIED: Final = Fault(DENIED_DETAIL, False)


class Tokens:
    """Checks tokens with the keys at hand, and has unknown keys fetched.

    directory: see KeyStore. changed: called in another thread whenever keys may have changed. row:
    where refusals are counted. keyed: as for Verifier. denied: the deny list. Raises BootError for
    a secret that cannot be used.
    """

    def __init__(
        self,
        settings: Auth,
        row: Row,
        directory: Path,
        changed: Callable[[], None],
        *,
        keyed: bool = True,
    ) -> None:
        self._settings = settings
        self._verifier = Verifier(settings, keyed=keyed)
        self._row = row
        self._unknown_keys = UnknownKeys()
        self._doubted: set[Doubt] = set()
        self._keys = KeyStore(settings, directory, changed)
        self.denied = Denied()

    def use_settings(self, settings: Auth, verifier: Verifier) -> None:
        """Use these settings from now on, and the verifier that was made from them."""
        self._settings, self._verifier = settings, verifier
        self._doubted = set()
        self._keys.use_settings(settings)

    def close(self) -> None:
        """Fetch no further keys."""
        self._keys.close()

    def publish(self) -> bool:
        """Write the age of the keys to the board; returns whether any token can be checked."""
        issuers, known = self._settings.issuers, self._keys.known
        fetches = known.fetches
        self._row.set_issuers(
            (issuer_id(name), int(fetches[name].ended * 1000) if name in fetches else 0)
            for name in (each.issuer for each in issuers)
        )
        able = not issuers or bool(known.keys) or self._settings.jwt_secret_beside_issuers
        keyless = Keyless.OLD if fetches else Keyless.NEVER
        self._row[Field.KEYLESS] = Keyless.NO if able else keyless
        return able

    def check(self, token: str) -> Principal:
        """The token's principal. Raises TokenRefused, `keys_pending` if it may be good."""
        known = self._keys.known
        try:
            principal = self._verifier.verify(token, known.keys, now=time.time())
            if self.denied.covers(principal.token):
                raise TokenRefused("denied", subject=principal.subject)
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
        if self._verifier.doubts != self._doubted:
            self._say_doubts()
        return principal

    def fault(self, principal: Principal) -> Fault | None:
        """Why a token that was accepted counts no more; None if it is good."""
        token, known = principal.token, self._keys.known
        if self.denied.covers(token):
            return _DENIED
        if not self._verifier.has_lost(token, known.keys):
            return None
        return None if token.key in known.gone.get(token.issuer or "", ()) else _LOST_KEY

    def _say_doubts(self) -> None:
        doubts = self._verifier.doubts
        if "audience" in doubts - self._doubted:
            _log.warning(
                "a token names an audience, but none is checked",
                hint="set auth.audience, or tokens that were made for other services are accepted",
            )
        if "long" in doubts - self._doubted:
            _log.warning(
                "a token is valid for longer than a connection may last",
                seconds=self._settings.max_token_seconds,
                hint="auth.refuse_long_tokens refuses such tokens",
            )
        self._doubted = set(doubts)
