"""A refused client: gets the reason in a message, is closed, and is hardly read."""

from __future__ import annotations

from typing import Any, cast

from picows import WSMsgType

from energyws.errors import PROTOCOL_VIOLATION, TOO_MANY_CONNECTIONS
from energyws.process.board import Field
from tests.workers.websocket.recording import RecordingTransport, Worker, client_frame
from workers.websocket.clients.refusal import MOST_AWAITED, MOST_FRAMES, RefusedClient


def refused(worker: Worker | None = None) -> tuple[Worker, RefusedClient, Any]:
    worker = worker or Worker()
    transport = RecordingTransport(worker.journal)
    client = RefusedClient(worker.context, TOO_MANY_CONNECTIONS, "full")
    client.on_ws_connected(cast(Any, transport))
    return worker, client, transport


def test_the_101_and_the_error_are_one_write_before_the_close() -> None:
    worker, _, _ = refused()
    assert worker.journal.names() == ["write", "close frame", "registry.closing"]
    assert worker.journal[0][1].startswith(b"HTTP/1.1 101 ")
    (error,) = worker.journal.messages()
    assert error["code"] == "TOO_MANY_CONNECTIONS"
    assert error["message"].endswith(": full")
    assert worker.journal.close_codes() == [4503]


def test_close_frame_of_the_client_ends_the_connection() -> None:
    worker, client, transport = refused()
    client.on_ws_frame(transport, client_frame(WSMsgType.CLOSE, b"\x11\x97"))
    assert worker.journal[-1] == ("end",)
    assert worker.row[Field.PENDING] == 1
    client.on_ws_disconnected(transport)
    assert worker.row[Field.PENDING] == 0
    assert worker.journal[-1] == ("registry.leave",)
    client.abort()
    assert worker.journal[-1] == ("registry.leave",)


def test_only_so_many_are_awaited() -> None:
    worker, client, transport = refused()
    for _ in range(MOST_AWAITED - 1):
        refused(worker)
    assert ("end",) not in worker.journal
    refused(worker)
    assert worker.journal.names()[-3:] == ["close frame", "registry.closing", "end"]
    assert worker.context.refused == MOST_AWAITED + 1
    client.on_ws_disconnected(transport)
    assert worker.context.refused == MOST_AWAITED


def test_number_of_parsed_frames_is_bounded() -> None:
    worker, client, transport = refused()
    worker.journal.clear()
    for _ in range(MOST_FRAMES):
        client.on_ws_frame(transport, client_frame(WSMsgType.TEXT, b"{", final=False))
        continuation = client_frame(WSMsgType.CONTINUATION, b"}", continues=True)
        client.on_ws_frame(transport, continuation)
    assert worker.journal == []
    client.on_ws_frame(transport, client_frame(WSMsgType.TEXT, b"{}"))
    assert worker.journal == [("drop",)]


def test_client_that_does_not_close_is_aborted() -> None:
    worker, client, _ = refused()
    client.pause_writing()
    client.resume_writing()
    client.abort()
    assert worker.journal[-1] == ("abort",)


def test_nothing_is_parsed_after_a_violation() -> None:
    worker, client, _ = refused()
    worker.journal.clear()
    client.violated(PROTOCOL_VIOLATION)
    assert worker.journal == [("fail",)]
