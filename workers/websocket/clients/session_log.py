"""What the log says of one client: its number, its subject, never its token.

What a client can cause as often as it likes is limited. Its beginning and its end are not: the two
lines are how operators count and find clients, and only who has a good token can cause them.
"""

from __future__ import annotations

from typing import Protocol

from energyws.auth.verifier import Principal
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.protocol.messages import Subscribed

_log = Log("session")
_limited = RateLimitedLog(_log, 1.0)


class LoggedClient(Protocol):
    """Whoever is told of."""

    id: int
    principal: Principal


def connected(client: LoggedClient, peer: str) -> None:
    """It was let in."""
    _log.info(
        "WebSocket client connected",
        client=client.id,
        peer=peer,
        subject=client.principal.subject,
    )


def disconnected(client: LoggedClient, code: int, by: str) -> None:
    """It is gone. by: who wanted it so: server or client."""
    _log.info(
        "WebSocket client disconnected",
        client=client.id,
        subject=client.principal.subject,
        code=code,
        by=by,
    )


def lags(client: LoggedClient, stream: str) -> None:
    """It does not take frames as fast as they come."""
    _limited.info("client lags", client=client.id, subject=client.principal.subject, stream=stream)


def skips(client: LoggedClient, stream: str, frames: int, by_choice: bool) -> None:
    """So many frames are not sent to it, because it is too slow; it may want it so."""
    say = _limited.info if by_choice else _limited.warning
    say(
        "client skips frames",
        kind="by choice" if by_choice else "",
        client=client.id,
        subject=client.principal.subject,
        stream=stream,
        frames=frames,
    )


def resumes(client: LoggedClient, stream: str, told: Subscribed) -> None:
    """It asked something back, and was told what it gets."""
    subject = client.principal.subject
    if told.reason is None:
        _limited.info(
            "client resumes",
            client=client.id,
            subject=subject,
            stream=stream,
            replayed=told.replayed,
        )
    else:
        _limited.warning(
            "client cannot resume without a gap",
            kind=told.reason.value,
            client=client.id,
            subject=subject,
            stream=stream,
            replayed=told.replayed,
            reason=told.reason.value,
        )


def not_set_up(client: LoggedClient) -> None:
    """A fault of ours, with its traceback."""
    _limited.fault(
        "a connection could not be set up", client=client.id, subject=client.principal.subject
    )


def not_handled(client: LoggedClient) -> None:
    """A fault of ours, with its traceback."""
    _limited.fault(
        "a client's frame could not be handled",
        client=client.id,
        subject=client.principal.subject,
    )
