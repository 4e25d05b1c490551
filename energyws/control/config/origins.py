"""The origins in server.allowed_origins, as browsers send them.

A browser sends the ASCII serialization (RFC 6454 section 6.2): scheme://host in lower case, the
port unless it is the scheme's default, and nothing after it. Workers compare it literally, so every
entry is normalised to this form, or refused if it has none.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import urlsplit

ANY: Final = "*"
# Browsers send it for pages without an origin, such as files and sandboxed frames.
NULL: Final = "null"
_PORTS: Final = {"http": 80, "https": 443}
# A name, or an address of IPv4 or IPv6.
_HOST: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_FORM: Final = "use scheme://host or scheme://host:port"
_OF_PAGES: Final = {"ws": "http", "wss": "https"}


class NoOrigin(ValueError):
    """No page has this origin; the message has the remedy, and does not quote the entry."""


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
        # urlsplit takes the host in host:port for a scheme.
        raise NoOrigin(_FORM if "://" in text else "no scheme: start with https://")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise NoOrigin("an origin ends with the host or its port: remove the rest")
    if "@" in parts.netloc:
        raise NoOrigin("an origin has no user name: remove it")
    if "*" in parts.netloc:
        raise NoOrigin(f"patterns are not supported: list each origin, or use {ANY} for all pages")
    if parts.scheme in _OF_PAGES:
        raise NoOrigin(f"a page's origin starts with {_OF_PAGES[parts.scheme]}://: use that")
    if not parts.netloc.isascii():
        raise NoOrigin("write the host as browsers send it, in Punycode (xn--…)")
    if not _HOST.fullmatch(parts.hostname):
        raise NoOrigin(_FORM)
    # urlsplit returns scheme and host in lower case.
    shown = "" if port is None or port == _PORTS.get(parts.scheme) else f":{port}"
    return f"{parts.scheme}://{_bracketed(parts.hostname)}{shown}"


def _bracketed(host: str) -> str:
    if ":" not in host:
        return host
    try:
        return f"[{IPv6Address(host).compressed}]"
    except ValueError:
        raise NoOrigin("[ and ] must enclose an IPv6 address") from None
