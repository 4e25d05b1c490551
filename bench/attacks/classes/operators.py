"""The admin port, and clients whose tokens the operator takes back."""

from __future__ import annotations

import contextlib
import http.client
from typing import Final

from bench.attacks.attack import ADMIN, ONE_SUBJECT, Bound, attack
from bench.attacks.held import Held
from bench.attacks.target import CONNECT_SECONDS, Target
from bench.kit.handshake import bearer, get_request, upgrade_request

_HALF: Final = get_request("/status").encode()[:-4]


@attack(
    name="admin-half-requests",
    title="60 half requests to the admin port, made anew as they end",
    who=ADMIN,
    answer="closed after a time; probes and scrapes are answered",
)
def admin_half_requests(target: Target) -> None:
    Held(target, 60, lambda _: _HALF, rate=120, admin=True).run()


@attack(
    name="admin-rebinding",
    title="requests that a browser sends for a page whose name leads to this machine: another "
    "`Host`, `Sec-Fetch-Site: cross-site`, GET and POST",
    who=ADMIN,
    answer="403, whatever they ask for",
    bounds=(Bound("answered", 0),),
)
def admin_rebinding(target: Target) -> None:
    requests: list[tuple[str, str, dict[str, str]]] = [
        ("GET", "/status", {"Host": "rebound.example:8490"}),
        ("GET", "/workers", {"Host": "rebound.example"}),
        ("GET", "/metrics", {"Host": "rebound.example."}),
        ("POST", "/log", {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}),
        (
            "POST",
            "/log",
            {"Host": "rebound.example", "Content-Type": "application/x-www-form-urlencoded"},
        ),
    ]
    for number, _ in enumerate(target.paced(20)):
        method, path, headers = requests[number % len(requests)]
        connection = http.client.HTTPConnection(
            "127.0.0.1", target.plan.admin_port, timeout=CONNECT_SECONDS
        )
        body = b'{"level":"INFO"}' if method == "POST" else None
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request(method, path, body, headers)
            status = connection.getresponse().status
            target.counts[f"status {status}"] += 1
            target.counts["answered"] += status < 400
        connection.close()


@attack(
    name="removed-secret",
    title="20 clients whose tokens are signed with the previous secret, which the operator removes",
    who=ONE_SUBJECT,
    answer="asked for a fresh token, and disconnected with 4401 some seconds later",
    needs=("auth.jwt_secret_previous_file",),
    bounds=(Bound("held", 0),),
    revokes="secret",
    lasts=16.0,
)
def removed_secret(target: Target) -> None:
    _stay(target)


@attack(
    name="revoked",
    title="20 clients with one token, whose subject the operator denies",
    who=ONE_SUBJECT,
    answer="disconnected with 4401 within seconds, and refused",
    needs=("auth.denied_file",),
    bounds=(Bound("held", 0),),
    revokes="subject",
    lasts=8.0,
)
def revoked(target: Target) -> None:
    _stay(target)


def _stay(target: Target) -> None:
    request = upgrade_request("/ws/energy?subscribe=energy", bearer(target.token)).encode()
    Held(target, 20, lambda _: request, rate=20).run()
