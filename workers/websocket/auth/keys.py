"""Issuers' public keys, fetched in threads; handshakes only read what has been fetched."""

from __future__ import annotations

import io
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from energyws.auth.jwks import MAX_JWKS_BYTES, BadKeys, Key, parse_jwks
from energyws.logs.events import Log
from energyws.settings import Auth, Issuer
from workers.runtime import crash_on_error

# The least time between two fetches for unknown key ids, however many clients bring them.
REFRESH_LIMIT_SECONDS: Final = 10.0
RETRY_FIRST_SECONDS: Final = 1.0
RETRY_MAX_SECONDS: Final = 30.0
# Workers and replicas that started together must not keep fetching together.
JITTER: Final = 0.2
_HEADERS: Final = {"Accept": "application/json", "User-Agent": "energyws"}

_log = Log("keys")


@dataclass(slots=True)
class _Endpoint:
    """One issuer's JWKS, and when it is fetched next (monotonic seconds).

    wanted: fetch sooner, as soon as REFRESH_LIMIT_SECONDS allow. gone: fetch never again. wake: set
    when one of the two has changed.
    """

    issuer: Issuer
    due: float = float("-inf")
    fetched_at: float = float("-inf")
    failures: int = 0
    wanted: bool = False
    gone: bool = False
    wake: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Fetch:
    """When a fetch that succeeded began (monotonic seconds), and when it ended (Unix seconds)."""

    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Known:
    """A consistent snapshot, by issuer: its keys, and the fetch that they are from."""

    keys: Mapping[str, tuple[Key, ...]] = field(default_factory=lambda: MappingProxyType({}))
    fetches: Mapping[str, Fetch] = field(default_factory=lambda: MappingProxyType({}))


class KeyStore:
    """`known` has the keys of each issuer; issuers without a successful fetch are missing.

    It is replaced, never changed, so reading it needs no lock. Keys are kept while an endpoint
    cannot be reached. fetched: called after each successful fetch, in the thread that fetched. Each
    issuer has its own thread, so that a slow one delays no other.
    """

    def __init__(self, settings: Auth, fetched: Callable[[], None] = lambda: None) -> None:
        self.known: Known = Known()
        self._fetched = fetched
        self._endpoints: dict[str, _Endpoint] = {}
        # Held where `known` is replaced: by the threads, and by `use_settings`.
        self._replacing = threading.Lock()
        self.use_settings(settings)

    @property
    def keys(self) -> Mapping[str, tuple[Key, ...]]:
        return self.known.keys

    def use_settings(self, settings: Auth) -> None:
        """Trust these issuers from now on, and fetch all their keys soon.

        Until then, the keys of issuers whose settings are the same stay good.
        """
        self._refresh_seconds = settings.jwks_refresh_seconds
        self._timeout_seconds = settings.jwks_timeout_seconds
        self.close()
        with self._replacing:
            same = {endpoint.issuer for endpoint in self._endpoints.values()}
            kept = {each.issuer for each in settings.issuers if each in same}
            self._endpoints = {each.issuer: _Endpoint(each) for each in settings.issuers}
            keys, fetches = self.known.keys, self.known.fetches
            self.known = Known(
                MappingProxyType({k: v for k, v in keys.items() if k in kept}),
                MappingProxyType({k: v for k, v in fetches.items() if k in kept}),
            )
        for endpoint in self._endpoints.values():
            run = crash_on_error(self._run)
            threading.Thread(target=run, args=(endpoint,), name="keys", daemon=True).start()

    def refresh_soon(self, issuer: str) -> None:
        """A token names an unknown key: fetch again, at most once per REFRESH_LIMIT_SECONDS."""
        endpoint = self._endpoints.get(issuer)
        if endpoint is not None and not endpoint.wanted:
            endpoint.wanted = True
            endpoint.wake.set()

    def close(self) -> None:
        """End the threads soon; it does not wait for a fetch under way."""
        for endpoint in self._endpoints.values():
            endpoint.gone = True
            endpoint.wake.set()

    def _run(self, endpoint: _Endpoint) -> None:
        while not endpoint.gone:
            # Before anything is read: a later change ends the wait below.
            endpoint.wake.clear()
            if endpoint.wanted:
                endpoint.due = min(endpoint.due, endpoint.fetched_at + REFRESH_LIMIT_SECONDS)
            if endpoint.due <= time.monotonic():
                # Before the fetch begins: a request from now on needs another one.
                endpoint.wanted = False
                endpoint.fetched_at = time.monotonic()
                pause = self._fetch(endpoint) * random.uniform(1 - JITTER, 1)
                endpoint.due = time.monotonic() + pause
            endpoint.wake.wait(max(0.0, endpoint.due - time.monotonic()))

    def _fetch(self, endpoint: _Endpoint) -> float:
        """Fetch one issuer's keys; returns the seconds to the next regular fetch."""
        issuer, began = endpoint.issuer, time.monotonic()
        known = self.keys.get(issuer.issuer, ())
        try:
            keys = parse_jwks(_download(issuer.jwks_url, self._timeout_seconds))
        except Exception as error:
            # Whatever an endpoint sends, it is tried again.
            if not endpoint.failures:
                _log.error(
                    "keys cannot be fetched: trying again",
                    issuer=issuer.name,
                    url=_plain(issuer.jwks_url),
                    reason=_reason(error),
                    keys_kept=len(known),
                )
            pause = RETRY_FIRST_SECONDS * 2.0 ** min(endpoint.failures, 10)
            endpoint.failures += 1
            return min(RETRY_MAX_SECONDS, self._refresh_seconds, pause)
        if endpoint.failures or keys != known:
            _log.info("keys fetched", issuer=issuer.name, keys=len(keys))
        endpoint.failures = 0
        with self._replacing:
            # The settings may have changed meanwhile.
            if not endpoint.gone:
                self.known = _with(self.known, issuer.issuer, keys, Fetch(began, time.time()))
        self._fetched()
        return self._refresh_seconds


def _with(known: Known, issuer: str, keys: tuple[Key, ...], fetch: Fetch) -> Known:
    # Equal keys stay the same objects: the token cache is valid as long as they do.
    same = known.keys.get(issuer) == keys
    return Known(
        known.keys if same else MappingProxyType({**known.keys, issuer: keys}),
        MappingProxyType({**known.fetches, issuer: fetch}),
    )


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until a deadline; the socket's own timeout starts again at every byte."""

    def __init__(self, connected: socket.socket, raw: io.RawIOBase) -> None:
        self._socket = connected
        self._raw = raw
        self._seconds = connected.gettimeout() or 0.0
        self._deadline = time.monotonic() + self._seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"not complete within {self._seconds:g} s")
        self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(sock, self.fp.detach()))


def _download(url: str, timeout: float) -> bytes:
    """The body; one byte more than MAX_JWKS_BYTES if it is too large.

    http.client and not urllib, which would have to be kept from redirects (they could lead to
    metadata services), other schemes, and credentials and proxies from the environment. Connecting,
    the TLS handshake and the answer may take `timeout` seconds each.
    """
    parts = urlsplit(url)
    kinds: dict[str, type[HTTPConnection]] = {"http": HTTPConnection, "https": HTTPSConnection}
    kind = kinds.get(parts.scheme)
    if kind is None:
        raise HTTPException("only http and https URLs are fetched")
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    connection.response_class = _Response
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers=_HEADERS)
        with connection.getresponse() as answer:
            if 300 <= answer.status < 400:
                raise HTTPException(f"HTTP status {answer.status}: redirects are not followed")
            if answer.status != 200:
                raise HTTPException(f"HTTP status {answer.status}")
            return answer.read(MAX_JWKS_BYTES + 1)
    finally:
        connection.close()


def _reason(error: Exception) -> str:
    """What may be logged of an error: some repeat the URL with its query."""
    if isinstance(error, OSError | HTTPException | BadKeys) and not isinstance(error, InvalidURL):
        return str(error) or type(error).__name__
    return type(error).__name__


def _plain(url: str) -> str:
    """A URL as it may be logged: without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
