"""Downloads an issuer's JWKS."""

from __future__ import annotations

from http.client import HTTPException
from urllib.parse import urlsplit

from energyws.auth.jwks import MAX_JWKS_BYTES
from workers.http_get import Resolver, get


def download(url: str, timeout: float, resolver: Resolver) -> bytes:
    """The body; one byte more than MAX_JWKS_BYTES if it is too large.

    Deadlines are those of `get`. Raises OSError or HTTPException.
    """
    answer = get(url, timeout, resolver, MAX_JWKS_BYTES)
    if 300 <= answer.status < 400:
        raise HTTPException(f"HTTP status {answer.status}: redirects are not followed")
    if answer.status != 200:
        raise HTTPException(f"HTTP status {answer.status}")
    return answer.body


def plain(url: str) -> str:
    """A URL as it may be logged: without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
