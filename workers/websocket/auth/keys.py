"""Issuers' public keys, fetched in threads; handshakes only read what has been fetched.

The workers of a service share what they fetch (shared_keys.py), so an issuer sees one fetch.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPException, InvalidURL
from pathlib import Path
from types import MappingProxyType
from typing import Final

from energyws.auth.jwks import BadKeys, Key, parse_jwks
from energyws.logs.events import Log
from energyws.settings import Auth, Issuer
from workers.http_get import Resolver
from workers.runtime import crash_on_error
from workers.websocket.auth.download import download, plain
from workers.websocket.auth.shared_keys import Attempt, SharedKeys

# The least time between two fetches for unknown key ids, however many clients bring them.
REFRESH_LIMIT_SECONDS: Final = 10.0
RETRY_FIRST_SECONDS: Final = 1.0
RETRY_MAX_SECONDS: Final = 30.0
# Replicas that started together must not keep fetching together.
JITTER: Final = 0.2
# How often a worker looks whether another one has fetched, and how often while one does.
LOOK_SECONDS: Final = 1.0
BUSY_SECONDS: Final = 0.1
# The workers get new settings within this time: one fetch is enough for all.
RELOAD_SECONDS: Final = 1.0

_NEVER: Final = float("-inf")

_log = Log("keys")


@dataclass(slots=True)
class _Endpoint:
    """One issuer's JWKS, and when it is fetched next (monotonic seconds).

    wanted: when newer keys were last asked for; they are fetched as soon as REFRESH_LIMIT_SECONDS
    allow. last: the last attempt, by any worker; keys: those of `last.jwks`. gone: fetch never
    again. wake: set when one of these has changed.
    """

    issuer: Issuer
    shared: SharedKeys
    wanted: float = _NEVER
    regular: float = _NEVER
    last: Attempt = field(default_factory=lambda: Attempt(_NEVER, 0))
    keys: tuple[Key, ...] = ()
    gone: bool = False
    wake: threading.Event = field(default_factory=threading.Event)
    resolver: Resolver = field(default_factory=Resolver)

    @property
    def due(self) -> float:
        if self.wanted < self.last.attempted:
            return self.regular
        return min(self.regular, self.last.attempted + REFRESH_LIMIT_SECONDS)


@dataclass(frozen=True, slots=True)
class Fetch:
    """When a fetch that succeeded began (monotonic seconds), and when it ended (Unix seconds)."""

    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Known:
    """A consistent snapshot, by issuer: its keys, and the fetch that they are from.

    Keys that are too old are missing, but not the fetch. gone: the keys that this fetch was the
    first without; a second one must confirm it before connections end, since servers of one
    issuer may differ for a while.
    """

    keys: Mapping[str, tuple[Key, ...]] = field(default_factory=lambda: MappingProxyType({}))
    fetches: Mapping[str, Fetch] = field(default_factory=lambda: MappingProxyType({}))
    gone: Mapping[str, tuple[Key, ...]] = field(default_factory=lambda: MappingProxyType({}))


class KeyStore:
    """`known` has the keys of each issuer; issuers without a successful fetch are missing.

    It is replaced, never changed, so reading it needs no lock. While an endpoint cannot be reached,
    keys are kept for auth.jwks_max_stale_seconds. directory: where workers share what they fetch.
    changed: called after each successful fetch, by whatever worker, and when keys have become too
    old, in another thread. Each issuer has its own thread, so that a slow one delays no other.
    """

    def __init__(
        self, settings: Auth, directory: Path, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.known: Known = Known()
        self._directory = directory
        self._changed = changed
        self._endpoints: dict[str, _Endpoint] = {}
        # Held where `known` is replaced: by the threads, and by `use_settings`.
        self._replacing = threading.Lock()
        self._begin(settings, _NEVER)

    @property
    def keys(self) -> Mapping[str, tuple[Key, ...]]:
        return self.known.keys

    def use_settings(self, settings: Auth) -> None:
        """Trust these issuers from now on, and have all their keys fetched soon.

        Until then, the keys of issuers whose settings are the same stay good.
        """
        self._begin(settings, time.monotonic() - RELOAD_SECONDS)

    def refresh_soon(self, issuer: str) -> None:
        """A token names an unknown key: fetch again, at most once per REFRESH_LIMIT_SECONDS."""
        endpoint = self._endpoints.get(issuer)
        if endpoint is None:
            return
        waits = endpoint.wanted >= endpoint.last.attempted
        endpoint.wanted = time.monotonic()
        if not waits:
            endpoint.wake.set()

    def close(self) -> None:
        """End the threads soon; it does not wait for a fetch under way."""
        for endpoint in self._endpoints.values():
            endpoint.gone = True
            endpoint.wake.set()

    def _begin(self, settings: Auth, wanted: float) -> None:
        self._refresh_seconds = settings.jwks_refresh_seconds
        self._timeout_seconds = settings.jwks_timeout_seconds
        self._stale_seconds = settings.jwks_refresh_seconds + settings.jwks_max_stale_seconds
        self.close()
        with self._replacing:
            same = {endpoint.issuer for endpoint in self._endpoints.values()}
            kept = {each.issuer for each in settings.issuers if each in same}
            self._endpoints = {
                each.issuer: _Endpoint(each, SharedKeys(self._directory, each), wanted)
                for each in settings.issuers
            }
            known = self.known
            self.known = Known(
                MappingProxyType({k: v for k, v in known.keys.items() if k in kept}),
                MappingProxyType({k: v for k, v in known.fetches.items() if k in kept}),
                MappingProxyType({k: v for k, v in known.gone.items() if k in kept}),
            )
        for endpoint in self._endpoints.values():
            run = crash_on_error(self._run)
            threading.Thread(target=run, args=(endpoint,), name="keys", daemon=True).start()

    def _run(self, endpoint: _Endpoint) -> None:
        while not endpoint.gone:
            # Before anything is read: a later change ends the wait below.
            endpoint.wake.clear()
            free = True
            self._look(endpoint)
            if endpoint.due <= time.monotonic():
                with endpoint.shared.locked() as free:
                    # Another worker may have fetched just before.
                    self._look(endpoint)
                    if free and endpoint.due <= time.monotonic():
                        self._fetch(endpoint)
            self._drop_old(endpoint)
            pause = endpoint.due - time.monotonic() if free else BUSY_SECONDS
            endpoint.wake.wait(max(0.0, min(pause, LOOK_SECONDS)))

    def _look(self, endpoint: _Endpoint) -> None:
        if (attempt := endpoint.shared.news()) is not None:
            self._take(endpoint, attempt)

    def _fetch(self, endpoint: _Endpoint) -> None:
        """Fetch one issuer's keys, and tell the other workers."""
        issuer, last, began = endpoint.issuer, endpoint.last, time.monotonic()
        # Before the fetch begins: a request from now on needs another one.
        attempt = replace(last, attempted=began, failures=last.failures + 1)
        try:
            data = download(issuer.jwks_url, self._timeout_seconds, endpoint.resolver)
            keys = parse_jwks(data)
        except Exception as error:
            # Whatever an endpoint sends, it is tried again.
            if not last.failures:
                _log.error(
                    "keys cannot be fetched: trying again",
                    issuer=issuer.name,
                    url=plain(issuer.jwks_url),
                    reason=_reason(error),
                    keys_kept=len(self.keys.get(issuer.issuer, ())),
                )
        else:
            if last.failures or keys != self.keys.get(issuer.issuer):
                _log.info("keys fetched", issuer=issuer.name, keys=len(keys))
            # Latin-1: any bytes, and the same ones again.
            attempt = Attempt(began, 0, began, time.time(), data.decode("latin-1"))
        endpoint.shared.write(attempt)
        self._take(endpoint, attempt)

    def _take(self, endpoint: _Endpoint, attempt: Attempt) -> None:
        """Use the outcome of an attempt, of this worker or of another one."""
        issuer, last = endpoint.issuer.issuer, endpoint.last
        if attempt.jwks and attempt.jwks != last.jwks:
            try:
                endpoint.keys = parse_jwks(attempt.jwks.encode("latin-1"))
            except (BadKeys, UnicodeEncodeError):
                # No worker writes such a file.
                return
        endpoint.last = attempt
        nominal = self._refresh_seconds
        if attempt.failures:
            pause = RETRY_FIRST_SECONDS * 2.0 ** min(attempt.failures - 1, 10)
            nominal = min(RETRY_MAX_SECONDS, self._refresh_seconds, pause)
        since = time.monotonic() if attempt.failures else attempt.attempted
        endpoint.regular = since + nominal * random.uniform(1 - JITTER, 1)
        if attempt.began is None or attempt.ended is None:
            return
        fetch = Fetch(attempt.began, attempt.ended)
        with self._replacing:
            known = self.known
            is_known = fetch == known.fetches.get(issuer) and issuer in known.keys
            # Gone: the settings have changed meanwhile.
            if endpoint.gone or is_known:
                return
            keys = () if self._is_old(fetch) else endpoint.keys
            self.known = _with(known, issuer, keys, fetch)
            if issuer in self.known.gone:
                endpoint.wanted = time.monotonic()
        self._changed()

    def _is_old(self, fetch: Fetch) -> bool:
        return time.monotonic() - fetch.began > self._stale_seconds

    def _drop_old(self, endpoint: _Endpoint) -> None:
        """Forget keys that could not be refreshed for too long."""
        issuer = endpoint.issuer.issuer
        with self._replacing:
            fetch = self.known.fetches.get(issuer)
            has_keys = not endpoint.gone and issuer in self.known.keys
            if fetch is None or not has_keys or not self._is_old(fetch):
                return
            self.known = _with(self.known, issuer, (), fetch)
        _log.error(
            "keys are too old: no token of this issuer is accepted until they can be fetched",
            issuer=endpoint.issuer.name,
            url=plain(endpoint.issuer.jwks_url),
        )
        self._changed()


def _with(known: Known, issuer: str, keys: tuple[Key, ...], fetch: Fetch) -> Known:
    # Equal keys stay the same objects, so that looking one up compares no bytes.
    before = known.keys.get(issuer, ())
    kept = tuple(next((old for old in before if old == new), new) for new in keys)
    all_keys = {name: each for name, each in known.keys.items() if name != issuer}
    if kept:
        all_keys[issuer] = kept
    gone = {name: each for name, each in known.gone.items() if name != issuer}
    if missing := tuple(old for old in before if old not in kept):
        gone[issuer] = missing
    return Known(
        known.keys if kept == before else MappingProxyType(all_keys),
        MappingProxyType({**known.fetches, issuer: fetch}),
        MappingProxyType(gone),
    )


def _reason(error: Exception) -> str:
    """What may be logged of an error: some repeat the URL with its query."""
    if isinstance(error, OSError | HTTPException | BadKeys) and not isinstance(error, InvalidURL):
        return str(error) or type(error).__name__
    return type(error).__name__
