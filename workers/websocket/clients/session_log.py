"""The log lines about one client: with its number and subject, never its token.

Lines that a client can cause as often as it likes are limited. The lines for its beginning and its
end are not: operators count and find clients by them, and only a client with a good token can cause
them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.protocol.messages import Subscribed
from workers.websocket.clients.connections import Connection

_log = Log("session")
_limited = RateLimitedLog(_log, 1.0)
_ids = itertools.count(1)


def next_id() -> int:
    """The number of a client in the log of its worker."""
    return next(_ids)


def connected(client: Connection, peer: str) -> None:
    _log.info(
        "WebSocket client connected",
        client=client.id,
        peer=peer,
        subject=client.principal.subject,
    )


def disconnected(client: Connection, code: int, by: str) -> None:
    """by: the side that began the closing handshake, server or client."""
    _log.info(
        "WebSocket client disconnected",
        client=client.id,
        subject=client.principal.subject,
        code=code,
        by=by,
    )


def stream_began(client: Connection, peer: str) -> None:
    """A client with Server-Sent Events is connected."""
    _log.info(
        "client connected",
        kind="sse",
        client=client.id,
        peer=peer,
        subject=client.principal.subject,
    )


def stream_ended(client: Connection, code: int, by: str) -> None:
    """by: the side that ended the body, server or client."""
    _log.info(
        "client disconnected",
        kind="sse",
        client=client.id,
        subject=client.principal.subject,
        code=code,
        by=by,
    )


def lagging(client: Connection, stream: str) -> None:
    _limited.info("client lags", client=client.id, subject=client.principal.subject, stream=stream)


def skipped(client: Connection, stream: str, frames: int, by_choice: bool) -> None:
    """by_choice: its subscription is on_lag `latest`."""
    write = _limited.info if by_choice else _limited.warning
    write(
        "client skips frames",
        kind="by choice" if by_choice else "",
        client=client.id,
        subject=client.principal.subject,
        stream=stream,
        frames=frames,
    )


def subscribed(client: Connection, streams: Mapping[str, Subscribed]) -> None:
    """Log the streams that it resumes; a subscription that begins live is no news."""
    for stream, reply in streams.items():
        if reply.recovered is not None:
            resumed(client, stream, reply)


def resumed(client: Connection, stream: str, reply: Subscribed) -> None:
    subject = client.principal.subject
    if reply.reason is None:
        _limited.info(
            "client resumes",
            client=client.id,
            subject=subject,
            stream=stream,
            replayed=reply.replayed,
        )
    else:
        _limited.warning(
            "client cannot resume without a gap",
            kind=reply.reason.value,
            client=client.id,
            subject=subject,
            stream=stream,
            replayed=reply.replayed,
            reason=reply.reason.value,
        )


def limited(client: Connection, limit: str) -> None:
    """limit: the key in `limits`."""
    _limited.warning(
        "client over a limit",
        kind=limit,
        client=client.id,
        subject=client.principal.subject,
        limit=limit,
    )


def not_set_up(client: Connection) -> None:
    _limited.fault(
        "a connection could not be set up", client=client.id, subject=client.principal.subject
    )


def not_handled(client: Connection) -> None:
    _limited.fault(
        "a client's frame could not be handled",
        client=client.id,
        subject=client.principal.subject,
    )
