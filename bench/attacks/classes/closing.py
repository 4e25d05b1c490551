"""What a client goes on sending after the service has closed the connection, or within limits."""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Final

import orjson

from bench.attacks.attack import ANYBODY, ONE_SUBJECT, attack
from bench.attacks.held import Held
from bench.attacks.target import CONNECT_SECONDS, Target
from bench.attacks.wire import LARGE_PING, NO_JSON, PING, PING_FRAME, masked
from bench.kit.handshake import bearer, upgrade_request

_PATH: Final = "/ws/energy"
_PINGS: Final = PING_FRAME * 10_000
# More than a worker could parse, less than a core of the attacker's can send.
_BYTES_PER_SECOND: Final = 64 << 20
_RECONNECTS_PER_SECOND: Final = 400.0
# Within the 50 messages per second that a client may send.
_MESSAGES_PER_SECOND: Final = 45.0


@attack(
    name="refused",
    title="4 sockets without a valid token, upgraded because of their `Origin` to learn the "
    "reason, send pings without a pause",
    who=ANYBODY,
    answer="nothing is read after the refusal; the connection ends",
)
def refused(target: Target) -> None:
    request = upgrade_request(_PATH, bearer("none"), "Origin: https://attacker.example")
    _flood(target, 4, request.encode(), b"")


@attack(
    name="closed",
    title="4 clients send too many messages, are closed with 1008, and go on sending",
    who=ONE_SUBJECT,
    answer="nothing is read after the close; the connection ends",
)
def closed(target: Target) -> None:
    request = upgrade_request(_PATH, bearer(target.token))
    _flood(target, 4, request.encode(), NO_JSON * 200)


@attack(
    name="nothing",
    title="for comparison: as many pings to a socket of the attacker's own, so that only the "
    "machine is attacked",
    who=ANYBODY,
    answer="none",
    comparison=True,
)
def nothing(target: Target) -> None:
    due = target.due(_BYTES_PER_SECOND)
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
    budget = 0
    with sender, receiver:
        while target.going:
            budget = min(budget + due(), _BYTES_PER_SECOND)
            if budget <= 0:
                target.pause(0.005)
                continue
            sender.sendall(_PINGS)
            receiver.recv(len(_PINGS), socket.MSG_WAITALL)
            budget -= len(_PINGS)
            target.counts["bytes sent"] += len(_PINGS)


def _flood(target: Target, count: int, request: bytes, first: bytes) -> None:
    """Keep `count` connections that send pings as fast as they are taken, within a budget."""
    poll = select.poll()
    floods: dict[int, socket.socket] = {}
    due = target.due(_BYTES_PER_SECOND)
    reconnects = target.due(_RECONNECTS_PER_SECOND)
    budget = 0
    while target.going:
        room = count - len(floods)
        for _ in range(min(room, reconnects())):
            if (connection := _upgraded(target, request, first)) is not None:
                floods[connection.fileno()] = connection
                poll.register(connection, select.POLLIN | select.POLLOUT)
        budget = min(budget + due(), _BYTES_PER_SECOND)
        if budget <= 0 or not floods:
            target.pause(0.005)
            continue
        for descriptor, events in poll.poll(1000 * CONNECT_SECONDS):
            connection = floods[descriptor]
            try:
                if events & select.POLLIN and not connection.recv(1 << 16):
                    raise ConnectionResetError
                if events & select.POLLOUT:
                    sent = connection.send(_PINGS)
                    budget -= sent
                    target.counts["bytes sent"] += sent
                elif events & (select.POLLERR | select.POLLHUP):
                    raise ConnectionResetError
            except BlockingIOError:
                continue
            except OSError:
                target.counts["closed"] += 1
                poll.unregister(connection)
                floods.pop(descriptor).close()
    for connection in floods.values():
        connection.close()


def _upgraded(target: Target, request: bytes, first: bytes) -> socket.socket | None:
    """A connection that got an answer and has sent its first message; None if it was closed."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        connection = stack.enter_context(target.connected())
        connection.sendall(request)
        if connection.recv(1 << 16):
            target.counts["upgraded"] += 1
            connection.sendall(first)
            connection.setblocking(False)
            stack.pop_all()
            return connection
    target.counts["not upgraded"] += 1
    return None


@attack(
    name="chatter",
    title="for comparison, within the limits of each connection: 250 clients with one token send "
    "45 pings a second each",
    who=ONE_SUBJECT,
    answer="answered; fewer with a limit for a subject",
    comparison=True,
)
def chatter(target: Target) -> None:
    request = upgrade_request(_PATH, bearer(target.token)).encode()
    pause = 2 / _MESSAGES_PER_SECOND
    Held(target, 250, lambda _: request, rate=250, word=lambda: PING * 2, pause=pause).run()


@attack(
    name="renewals",
    title="50 clients send their token again, 45 times a second each",
    who=ONE_SUBJECT,
    answer="answered; what it replaces is forgotten",
    memory_mib=16.0,
)
def renewals(target: Target) -> None:
    request = upgrade_request(_PATH, bearer(target.token)).encode()
    message = masked(orjson.dumps({"type": "auth", "token": target.token}))
    pause = 1 / _MESSAGES_PER_SECOND
    Held(target, 50, lambda _: request, rate=250, word=lambda: message, pause=pause).run()


@attack(
    name="large-messages",
    title="50 clients with one token send 99 messages of 16 KiB at once, within every limit, "
    "then stay",
    who=ONE_SUBJECT,
    answer="answered; read buffers shrink again",
)
def large_messages(target: Target) -> None:
    request = upgrade_request(_PATH, bearer(target.token)).encode()
    connections = []
    for _ in range(50):
        with contextlib.suppress(OSError):
            connection = target.connected()
            connection.sendall(request)
            connection.recv(1 << 16)
            connections.append(connection)
    for connection in connections:
        with contextlib.suppress(OSError):
            for _ in range(99):
                if target.going:
                    connection.sendall(LARGE_PING)
            target.counts["sent everything"] += 1
    while target.going:
        target.pause(0.1)
        for connection in connections:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                target.counts["bytes read"] += len(connection.recv(1 << 16))
    for connection in connections:
        connection.close()
