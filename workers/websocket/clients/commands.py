"""Carries out a client's messages: ping, subscribe, unsubscribe, renew."""

from __future__ import annotations

import time
from typing import Protocol

from energyws.auth.claims import TokenRefused
from energyws.errors import (
    BAD_MESSAGE,
    FORBIDDEN_STREAM,
    STREAM_UNAVAILABLE,
    UNAUTHORIZED,
    UNKNOWN_STREAM,
)
from energyws.protocol import messages
from energyws.protocol.messages import ClientMessage, Ping, Renew, Subscribe, Unsubscribe
from workers.websocket.clients.connections import Connection
from workers.websocket.clients.context import Context
from workers.websocket.fanout.subscription import FanoutClient


class Client(FanoutClient, Connection, Protocol):
    """A session, as its commands see it."""


def carry_out(message: ClientMessage, client: Client, context: Context) -> None:
    """Answers the client. Raises BadClientMessage for keys that it does not get, and for more
    subscriptions than may wait.
    """
    match message:
        case Ping(worker):
            told = context.worker if worker else None
            client.write(messages.pong(time.time_ns() // 1_000_000, told))
            context.hub.tell_positions(client)
        case Subscribe():
            if _may_read(message.streams, client, context):
                request = context.keys.with_filters(message, client.principal)
                if not context.hub.subscribe(client, request):
                    client.send_error(STREAM_UNAVAILABLE)
        case Unsubscribe():
            if _may_read(message.streams, client, context):
                context.hub.unsubscribe(client, message.streams)
                client.write(messages.unsubscribed(message.streams))
        case Renew():
            _renew(message, client, context)


def _may_read(streams: tuple[str, ...], client: Client, context: Context) -> bool:
    """Whether the client may read all of these; else it gets the error for the first it may not."""
    for name in streams:
        if name not in context.hub.streams:
            known = ", ".join(sorted(context.hub.streams))
            client.send_error(UNKNOWN_STREAM, f"{name[:64]!r}; known are {known}")
            return False
        if not client.principal.may_read(name):
            client.send_error(FORBIDDEN_STREAM, repr(name))
            return False
    return True


def _renew(message: Renew, client: Client, context: Context) -> None:
    try:
        principal = context.tokens.check(message.token)
    except TokenRefused as refused:
        # The connection keeps the token that it has.
        client.send_error(refused.error, refused.detail)
        return
    if principal.subject != client.principal.subject:
        client.send_error(UNAUTHORIZED, "the fresh token is another subject's")
        return
    if principal.streams != client.principal.streams:
        client.send_error(BAD_MESSAGE, "the fresh token allows other streams: reconnect with it")
        return
    if principal.token.rights != client.principal.token.rights:
        client.send_error(BAD_MESSAGE, "the fresh token allows other keys: reconnect with it")
        return
    client.principal = principal
    context.connections.expires(client)
    client.write(messages.authenticated(int(principal.expires_at * 1000)))
