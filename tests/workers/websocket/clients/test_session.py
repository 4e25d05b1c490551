"""A session between a recording transport and a recording hub, and one on a real socket."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
import uvloop
from aiofastnet.selector_transport import SelectorSocketTransport
from picows import WSMsgType

from energyws.errors import (
    BAD_MESSAGE,
    HISTORY_UNAVAILABLE,
    PROTOCOL_VIOLATION,
    RATE_LIMITED,
    RESTART,
    SLOW,
    TOKEN_EXPIRED_CLOSE,
    TOO_BIG,
)
from energyws.process.board import Board, Field
from energyws.protocol import frame
from energyws.protocol.http.queries import parse_query
from energyws.protocol.messages import BadClientMessage, Subscribe, Subscribed
from energyws.protocol.position import from_offsets
from energyws.settings import Auth, Limits, Server
from tests.clients import first_frame, masked
from tests.principals import principal
from tests.workers.websocket.connected import connected
from tests.workers.websocket.recording import RecordingTransport, Worker, client_frame
from workers.websocket.clients.connections import ConnectionRegistry
from workers.websocket.clients.context import Context
from workers.websocket.clients.session import Session
from workers.websocket.clients.session_state import IllegalEvent
from workers.websocket.connection.framing import Framing
from workers.websocket.connection.upgrade import Upgrade, switching
from workers.websocket.shares import Shares

DEADLINE_SECONDS = 10.0

SUBSCRIBE = b'{"type":"subscribe","streams":["energy"]}'
PING = b'{"type":"ping"}'


def receive(session: Session, transport: RecordingTransport, payload: bytes, **how: Any) -> None:
    session.on_ws_frame(cast(Any, transport), client_frame(WSMsgType.TEXT, payload, **how))


def test_101_and_the_first_reply_are_one_write() -> None:
    worker = Worker(write_buffer_bytes=65_536)
    worker.hub.found = False
    session, transport = worker.session(parse_query("subscribe=energy"))
    session.on_ws_connected(cast(Any, transport))
    assert worker.journal.names() == ["limits", "registry.join", "hub.subscribe", "write"]
    assert worker.journal[0] == ("limits", 65_536, 16_384)
    assert worker.journal[-1][1].startswith(b"HTTP/1.1 101 ")
    (reply,) = worker.journal.messages()
    assert reply["code"] == "STREAM_UNAVAILABLE"
    assert worker.row[Field.CONNECTIONS] == 1
    assert (session.writable, session.closing) == (True, False)


def test_error_in_the_query_is_sent_after_the_101() -> None:
    worker = Worker()
    session, transport = worker.session(BadClientMessage(BAD_MESSAGE, "no such field"))
    session.on_ws_connected(cast(Any, transport))
    assert [message["code"] for message in worker.journal.messages()] == ["BAD_MESSAGE"]
    assert session.writable


def test_transport_filled_by_the_101_pauses_the_session() -> None:
    worker = Worker()
    session, transport = worker.session()
    transport.fills_up = session
    session.on_ws_connected(cast(Any, transport))
    assert worker.journal.names()[-3:] == ["write", "hub.pause", "pause reading"]
    assert not session.writable
    session.resume_writing()
    assert worker.journal.names()[-2:] == ["resume reading", "hub.resume"]
    assert session.writable


def test_hub_hears_of_every_write_that_leaves_bytes_in_the_transport() -> None:
    worker = Worker()
    session, transport = worker.session()
    transport.held = 1
    session.on_ws_connected(cast(Any, transport))
    session.send_error(RATE_LIMITED)
    session.ping()
    assert worker.journal.names()[-6:] == ["write", "hub.backlogged"] * 3
    transport.held = 0
    session.ping()
    assert worker.journal.names()[-1] == "write"
    # The transport has dropped it.
    transport.closes = True
    session.ping()
    assert worker.journal.names()[-1] == "hub.backlogged"


def test_hub_forgets_a_lost_client_before_anything_can_fail() -> None:
    # What follows closes the descriptor, and the hub may know it.
    worker = Worker()
    session, transport = worker.connected()
    session.on_ws_disconnected(cast(Any, transport))
    with pytest.raises(IllegalEvent):
        session.on_ws_disconnected(cast(Any, transport))
    assert worker.journal.names() == ["hub.leave", "registry.lost", "hub.leave"]


def test_internal_error_in_the_first_request_closes_after_the_101() -> None:
    worker = Worker()
    worker.hub.fails = True
    session, transport = worker.session(parse_query("subscribe=energy"))
    session.on_ws_connected(cast(Any, transport))
    names = worker.journal.names()
    assert names.index("write") < names.index("close frame")
    assert worker.journal.close_codes() == [1011]
    assert session.closing


def test_internal_error_in_a_message_closes_the_connection() -> None:
    worker = Worker()
    session, transport = worker.connected()
    worker.hub.fails = True
    receive(session, transport, SUBSCRIBE)
    assert worker.journal.close_codes() == [1011]


def test_rate_limit_error_is_sent_before_the_close() -> None:
    # At one message a second, a client may send two together.
    worker = Worker(messages_per_second=1.0)
    session, transport = worker.connected()
    for _ in range(3):
        receive(session, transport, PING)
    replies = worker.journal.messages()
    assert [each.get("code", each["type"]) for each in replies] == ["pong", "pong", "RATE_LIMITED"]
    assert worker.journal.close_codes() == [1008]
    assert worker.closed() == {("server", "1008"): 1}


def test_messages_after_the_close_are_dropped_up_to_the_rate_limit() -> None:
    worker = Worker(messages_per_second=1.0)
    session, transport = worker.connected()
    receive(session, transport, PING)
    session.close(RESTART)
    worker.journal.clear()
    for _ in range(2):
        receive(session, transport, SUBSCRIBE)
    assert worker.journal == []
    receive(session, transport, SUBSCRIBE)
    assert worker.journal == [("drop",)]


def test_close_ends_subscriptions_before_its_frame_and_writes_nothing_after_it() -> None:
    worker = Worker()
    session, _ = worker.connected()
    session.reconnect(500, RESTART)
    assert worker.journal.names() == [
        "write",
        "hub.leave",
        "registry.closing",
        "close frame",
        "resume reading",
    ]
    assert worker.journal.messages() == [{"type": "reconnect", "after_ms": 500}]
    worker.journal.clear()
    session.write(b"late")
    session.sink.write_nocheck(b"late")
    session.ping()
    session.close(SLOW)
    session.reconnect(1, SLOW)
    session.history_unavailable()
    assert worker.journal == []
    assert worker.closed() == {("server", "1012"): 1}


def test_client_is_told_where_it_is_before_it_is_sent_away() -> None:
    for send_away, kinds in (
        (lambda session: session.reconnect(500, RESTART), ["position", "reconnect", "position"]),
        (lambda session: session.close(TOKEN_EXPIRED_CLOSE), ["position"]),
    ):
        worker = Worker()
        session, _ = worker.connected()
        worker.hub.at = from_offsets("ab", [7])
        send_away(session)
        # A real hub has nothing more to tell a client whose subscriptions have ended.
        assert [each["type"] for each in worker.journal.messages()] == kinds
        assert worker.journal.names()[len(kinds)] == "hub.leave"


def test_close_of_the_client_is_answered_with_its_code() -> None:
    worker = Worker()
    session, transport = worker.connected()
    close = client_frame(WSMsgType.CLOSE, (1001).to_bytes(2, "big"))
    session.on_ws_frame(cast(Any, transport), close)
    assert worker.journal.close_codes() == [1001]
    assert worker.journal.names()[-1] == "end"
    session.on_ws_disconnected(cast(Any, transport))
    assert worker.closed() == {("client", "1001"): 1}
    assert worker.row[Field.CONNECTIONS] == 0


def test_client_that_has_sent_too_much_may_still_close() -> None:
    worker = Worker(messages_per_second=1.0)
    session, transport = worker.connected()
    for _ in range(2):
        receive(session, transport, PING)
    session.on_ws_frame(cast(Any, transport), client_frame(WSMsgType.CLOSE, b"\x03\xe8"))
    assert worker.journal.close_codes() == [1000]
    assert worker.journal.names()[-1] == "end"


def test_reply_of_the_client_to_a_close_ends_the_connection() -> None:
    worker = Worker()
    session, transport = worker.connected()
    session.close(RESTART)
    worker.journal.clear()
    session.on_ws_frame(cast(Any, transport), client_frame(WSMsgType.CLOSE, b"\x03\xf4"))
    assert worker.journal == [("end",)]


def test_broken_connection_is_counted_as_a_1006_of_the_client() -> None:
    worker = Worker()
    session, transport = worker.connected()
    session.on_ws_disconnected(cast(Any, transport))
    assert worker.journal == [("hub.leave",), ("registry.lost",)]
    assert worker.closed() == {("client", "1006"): 1}
    session.write(b"late")
    session.close(RESTART)
    session.abort()
    assert worker.journal.names() == ["hub.leave", "registry.lost"]


def test_paused_client_is_neither_pinged_nor_read() -> None:
    worker = Worker()
    session, _ = worker.connected()
    session.ping()
    assert worker.journal == [("write", frame.encode(frame.PING, b""))]
    assert not session.heard
    session.pause_writing()
    session.ping()
    assert worker.journal[1:] == [("hub.pause",), ("pause reading",)]
    session.resume_writing()
    assert worker.journal[3:] == [("resume reading",), ("hub.resume",)]
    # The client reads again; its pong may wait behind a long backlog.
    assert session.heard


def test_client_closed_while_paused_is_read_again_for_its_close_frame() -> None:
    worker = Worker()
    session, _ = worker.connected()
    session.pause_writing()
    session.too_slow()
    assert worker.journal.names()[-2:] == ["close frame", "resume reading"]
    worker.journal.clear()
    # The buffer empties, then fills with the close frame; neither has an effect.
    session.resume_writing()
    session.pause_writing()
    assert worker.journal == []


def test_violation_closes_and_nothing_is_parsed_after_it() -> None:
    worker = Worker()
    session, transport = worker.connected()
    session.on_ws_frame(cast(Any, transport), client_frame(WSMsgType.TEXT, b"\xff"))
    assert worker.journal.close_codes() == [1007]
    assert worker.journal[-1] == ("fail",)


def test_violation_is_counted_once() -> None:
    worker = Worker()
    session, transport = worker.connected()
    session.violated(TOO_BIG)
    session.violated(PROTOCOL_VIOLATION)
    assert worker.journal.close_codes() == [1009]
    session.on_ws_disconnected(cast(Any, transport))
    assert worker.closed() == {("server", "1009"): 1}


def test_frame_in_several_reads_counts_once_against_the_rate() -> None:
    worker = Worker(messages_per_second=1.0)
    session, transport = worker.connected()
    last = len(PING) - 1
    for _ in range(2):
        for at in range(len(PING)):
            kind = WSMsgType.CONTINUATION if at else WSMsgType.TEXT
            part = client_frame(kind, PING[at : at + 1], final=at == last, continues=at > 0)
            session.on_ws_frame(cast(Any, transport), part)
    assert [message["type"] for message in worker.journal.messages()] == ["pong", "pong"]
    assert worker.journal.close_codes() == []


def test_ping_is_answered_and_fragments_are_joined() -> None:
    worker = Worker()
    session, transport = worker.connected()
    session.on_ws_frame(cast(Any, transport), client_frame(WSMsgType.PING, b"x"))
    assert worker.journal.pop() == ("write", frame.encode(frame.PONG, b"x"))
    session.on_ws_frame(cast(Any, transport), client_frame(WSMsgType.TEXT, PING[:5], final=False))
    session.on_ws_frame(cast(Any, transport), client_frame(WSMsgType.CONTINUATION, PING[5:]))
    assert [message["type"] for message in worker.journal.messages()] == ["pong"]


def test_invalid_json_is_an_error_and_the_connection_stays_open() -> None:
    worker = Worker()
    session, transport = worker.connected()
    receive(session, transport, b"{")
    receive(session, transport, PING)
    replies = worker.journal.messages()
    assert [each.get("code", each["type"]) for each in replies] == ["BAD_JSON", "pong"]


def test_replies_of_the_hub_become_messages() -> None:
    worker = Worker()
    session, _ = worker.connected()
    session.subscribed({"energy": Subscribed("abcd0123-1")})
    assert worker.journal.messages()[0]["positions"]["energy"]["position"] == "abcd0123-1"
    session.history_unavailable()
    assert worker.journal.messages()[1]["code"] == HISTORY_UNAVAILABLE.code
    assert worker.journal.close_codes() == [4503]


class Overloaded:
    """A hub whose history queue is full."""

    streams = ("energy",)

    def subscribe(self, client: Session, request: Subscribe) -> bool:
        client.history_unavailable()
        return True

    def dismiss(self, client: Session) -> None:
        pass

    def leave(self, client: Session) -> None:
        pass


async def read_to_the_end(client: socket.socket) -> bytes:
    """All data; replies to the close frame."""
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while piece := await loop.sock_recv(client, 65536):
            data += piece
            if data.endswith(b"later"):
                await loop.sock_sendall(client, masked(8, b"\x03\xe8"))
    return data


def test_client_closed_by_its_first_request_is_upgraded_first() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        connections = ConnectionRegistry(Server(), Auth())
        connection, client = connected()
        board = Board.create()
        context = Context(
            Server(),
            cast(Any, Overloaded()),
            connections,
            cast(Any, SimpleNamespace()),
            board.row(0),
            Shares(board.usage(0), board.row(0), Limits()),
            Worker().context.keys,
        )
        first = parse_query("subscribe=energy&last=5")
        session = Session(context, principal(), "127.0.0.1", first, None)
        framing = Framing(Upgrade(session, switching(None, None), "key"), Server(), connection)
        SelectorSocketTransport(loop, connection, framing)
        loop.call_soon(framing.begin, b"")
        client.setblocking(False)
        head, _, data = (await read_to_the_end(client)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        error = first_frame(data)
        assert error is not None
        assert orjson.loads(error[0])["code"] == HISTORY_UNAVAILABLE.code
        end = first_frame(error[1])
        assert end is not None
        assert (end[0][:2], end[1]) == ((4503).to_bytes(2, "big"), b"")
        client.close()
        connections.close()

    uvloop.run(test())
