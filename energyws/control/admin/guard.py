"""Who may ask the admin port for what: pure.

Without a token, whoever reaches the port may look. What must neither look nor act is a page of
another site in an operator's browser, which reaches every port that the browser reaches. Three
headers give it away: Host, which has the name that the page was loaded from, even after that name
was pointed at this machine (DNS rebinding); Origin; and Sec-Fetch-* (Fetch Metadata, W3C).
A request with the token needs no such checks: a page does not know it.
"""

from __future__ import annotations

import hmac
import socket
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

from energyws.control.loopback import is_loopback
from energyws.settings import Admin

# For probes, which cannot all send a token or choose a Host: a wrong refusal would restart pods or
# take them out of their load balancer. They show no more than readiness and its causes.
OPEN_PATHS: Final = frozenset({"/live", "/ready"})
METRICS_PATH: Final = "/metrics"
# No public DNS has names below these (RFC 6761, 6762, 8375; reserved by ICANN; Kubernetes), nor
# names without a dot: a site elsewhere cannot have one.
_PRIVATE: Final = ("local", "internal", "home.arpa", "svc", "lan", "home", "corp", "test")
_HOSTS: Final = "this Host is not in admin.hosts: add it there, or ask by the IP address"

Refusal = tuple[HTTPStatus, str]


@dataclass(frozen=True, slots=True)
class Guard:
    """token: what a request must carry, or None. hosts: names that Host may have, in lower case.

    local: only this machine reaches the port, and so without a token it takes commands. named: the
    port has an address that a name can be pointed at, so Host is checked.
    """

    token: str | None
    hosts: frozenset[str]
    local: bool
    named: bool = True

    def refusal(self, method: str, path: str, headers: Message[str, str]) -> Refusal | None:
        """The status and text that refuse the request; None: it may pass."""
        if method != "POST" and path in OPEN_PATHS:
            return None
        if self.token is not None:
            return None if self._has_token(headers) else _wrong_token()
        if method == "POST" and not self.local:
            text = "set admin.token: this port can be reached from elsewhere"
            return HTTPStatus.FORBIDDEN, text
        # From elsewhere, Prometheus may ask by whatever name: a refusal would end all alerts.
        by_any_name = not self.named or (path == METRICS_PATH and not self.local)
        if not by_any_name and not all(map(self._is_ours, headers.get_all("Host", []))):
            return HTTPStatus.MISDIRECTED_REQUEST, _HOSTS
        return _for_page(headers) if method == "POST" else _for_other_site(headers)

    def _has_token(self, headers: Message[str, str]) -> bool:
        assert self.token is not None
        scheme, _, sent = headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(sent.strip().encode(), self.token.encode())
        return same and scheme.lower() == "bearer"

    def _is_ours(self, host: str) -> bool:
        name = _without_port(host.strip().lower()).rstrip(".")
        try:
            # Rebinding needs a name.
            ip_address(name)
            return True
        except ValueError:
            pass
        if name in self.hosts or name == "localhost" or name.endswith(".localhost"):
            return True
        # On loopback a name of the local network is not enough: a neighbour may have chosen it. A
        # neighbour who reaches the port need not trick a browser into asking.
        private = "." not in name or name.endswith(tuple(f".{each}" for each in _PRIVATE))
        return not self.local and bool(name) and private


def for_port(admin: Admin) -> Guard:
    """The guard of the admin port."""
    return Guard(
        admin.token,
        _names(admin, admin.host),
        local=admin.socket is not None or is_loopback(admin.host),
        named=admin.socket is None,
    )


def for_metrics(admin: Admin) -> Guard:
    """The guard of the port for metrics, which takes no commands."""
    return Guard(None, _names(admin, admin.metrics_host), local=is_loopback(admin.metrics_host))


def _names(admin: Admin, host: str) -> frozenset[str]:
    names = (host, socket.gethostname(), *admin.hosts)
    return frozenset(name.lower().rstrip(".") for name in names)


def _wrong_token() -> Refusal:
    return HTTPStatus.UNAUTHORIZED, "send Authorization: Bearer with admin.token"


def _for_page(headers: Message[str, str]) -> Refusal | None:
    """What refuses a POST without a token that a page may have sent."""
    if "Origin" in headers or any(name.lower().startswith("sec-fetch-") for name in headers):
        return HTTPStatus.FORBIDDEN, "not for browsers"
    # A page may send a form to anywhere, in any browser; JSON it may not.
    if "Content-Type" in headers and headers.get_content_type() != "application/json":
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json"
    return None


def _for_other_site(headers: Message[str, str]) -> Refusal | None:
    """What refuses a GET by a page of another site, except for a link that somebody follows."""
    if headers.get("Sec-Fetch-Site") not in ("cross-site", "same-site"):
        return None
    if (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) == ("navigate", "document"):
        return None
    return HTTPStatus.FORBIDDEN, "not for pages of other sites"


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    # An IPv6 address without brackets has no port.
    return host.partition(":")[0] if host.count(":") == 1 else host
