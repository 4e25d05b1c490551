"""The origins in server.allowed_origins, as browsers send them.

A browser sends the ASCII serialization (RFC 6454 section 6.2): scheme://host, in lower case, with
the port only where it is not the scheme's, and nothing after it. Workers compare that as it is, so
an entry that is written otherwise is brought into this form, or refused if its meaning is open.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import urlsplit

ANY: Final = "*"
# What browsers send for pages without an origin, such as files and sandboxed frames.
NULL: Final = "null"
_PORTS: Final = {"http": 80, "https": 443}
# A name, or an address of IPv4 or IPv6.
_HOST: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_FORM: Final = "use scheme://host or scheme://host:port"
_OF_PAGES: Final = {"ws": "http", "wss": "https"}


class NoOrigin(ValueError):
    """No page has this origin; the text says what to write, without a word of the entry."""


def normalised(text: str) -> str:
    """The origin in the form that browsers send; `ANY` and `NULL` stay. Raises NoOrigin."""
    text = text.strip()
    if text in (ANY, NULL):
        return text
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise NoOrigin(_FORM) from None
    if not parts.hostname or not parts.scheme:
        # Of host:port, urlsplit takes the host for a scheme.
        raise NoOrigin(_FORM if "://" in text else "there is no scheme: begin with https://")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise NoOrigin("an origin ends with the host or its port: leave out what comes after it")
    if "@" in parts.netloc:
        raise NoOrigin("an origin has no user name: leave it out")
    if "*" in parts.netloc:
        raise NoOrigin(f"a pattern matches no page: name each origin, or use {ANY} for all pages")
    if parts.scheme in _OF_PAGES:
        raise NoOrigin(f"a page's origin begins with {_OF_PAGES[parts.scheme]}://: use that")
    if not parts.netloc.isascii():
        raise NoOrigin("write the host as browsers send it, in Punycode (xn--…)")
    if not _HOST.fullmatch(parts.hostname):
        raise NoOrigin(_FORM)
    # urlsplit has put scheme and host into lower case.
    shown = "" if port is None or port == _PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{_bracketed(parts.hostname)}{shown}"


def _bracketed(host: str) -> str:
    if ":" not in host:
        return host
    try:
        return f"[{IPv6Address(host).compressed}]"
    except ValueError:
        raise NoOrigin("between [ and ] belongs an IPv6 address") from None
