"""An event stream between a recording transport and a recording hub."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest

from energyws.errors import RESTART, TOKEN_EXPIRED, TOKEN_EXPIRED_CLOSE, TOKEN_EXPIRING
from energyws.process.board import Field
from energyws.protocol.messages import OnLag, Subscribe, Subscribed
from tests.principals import principal
from tests.workers.websocket.recording import RecordingTransport, Worker
from workers.websocket.clients.event_stream import EventStream

REQUEST = Subscribe(("energy",), {}, None, OnLag.SKIP)
BEGUN = {"energy": Subscribed("ab-1")}


class Transport(RecordingTransport):
    """aiofastnet's, without TLS."""

    def can_write_eof(self) -> bool:
        return True

    def abort(self) -> None:
        self.journal.append(("abort",))


def begun(worker: Worker, *, as_events: bool = False, last_event_id: str = "") -> EventStream:
    """A stream that has subscribed and has no answer yet; the journal begins after that."""
    stream = EventStream(
        worker.context,
        principal(),
        "192.0.2.1",
        REQUEST,
        {"Vary": "Origin"},
        as_events=as_events,
        last_event_id=last_event_id,
    )
    stream.connection = cast(Any, None)
    stream.connection_made(cast(Any, Transport(worker.journal)))
    stream.begin(b"what came after the request")
    return stream


def live(worker: Worker) -> EventStream:
    stream = begun(worker)
    stream.subscribed(BEGUN)
    worker.journal.clear()
    return stream


def written(worker: Worker) -> str:
    return b"".join(entry[1] for entry in worker.journal if entry[0] == "write").decode()


def test_head_and_subscribed_are_one_write() -> None:
    worker = Worker(write_buffer_bytes=65_536)
    stream = begun(worker)
    assert worker.journal == [
        ("limits", 65_536, 16_384),
        ("registry.join",),
        ("hub.subscribe", ("energy",)),
    ]
    assert (worker.row[Field.CONNECTIONS], worker.row[Field.EVENT_STREAMS]) == (1, 1)
    # Before there is a head there can be no comment.
    stream.ping()
    stream.subscribed(BEGUN)
    assert worker.journal.names()[3:] == ["write"]
    head, _, body = written(worker).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    for line in (
        "Content-Type: text/event-stream",
        "Cache-Control: no-store, no-transform",
        "X-Accel-Buffering: no",
        "Vary: Origin",
        "Connection: close",
    ):
        assert f"\r\n{line}" in head
    assert re.match(r"retry: [123]\d{3}\n\nevent: subscribed\nid: ab-1\ndata: {", body)


def test_topic_that_is_not_found_yet_is_a_notice_before_subscribed() -> None:
    worker = Worker()
    worker.hub.found = False
    stream = begun(worker)
    assert "event: notice\ndata: " in written(worker)
    stream.subscribed(BEGUN)
    assert written(worker).count("HTTP/1.1 200") == 1
    assert written(worker).count("retry: ") == 1


def test_client_keeps_its_position_before_the_first_event_with_an_id() -> None:
    waiting, refused = Worker(), Worker()
    waiting.hub.found = False
    begun(waiting, last_event_id="ab-1")
    begun(refused, as_events=True, last_event_id="ab-1").history_unavailable()
    for worker, event in ((waiting, "notice"), (refused, "problem")):
        body = written(worker).partition("\r\n\r\n")[2]
        assert re.match(rf"retry: \d+\nid: ab-1\n\nevent: {event}\n", body)


@pytest.mark.parametrize("as_events", [False, True])
def test_history_that_is_unavailable_is_a_refusal_before_the_head(as_events: bool) -> None:
    worker = Worker()
    stream = begun(worker, as_events=as_events)
    stream.history_unavailable()
    assert worker.journal.names()[3:] == ["write", "hub.leave", "registry.closing", "end"]
    head, _, body = written(worker).partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 " if as_events else "HTTP/1.1 503 ")
    assert ("event: problem" in body) is as_events
    assert "HISTORY_UNAVAILABLE" in body
    assert "Vary: Origin" in head
    assert worker.closed() == {("server", "4503"): 1}


def test_history_that_is_lost_later_is_a_notice_and_the_end() -> None:
    worker = Worker()
    live(worker).history_unavailable()
    assert written(worker).startswith("event: notice\ndata: ")
    assert worker.journal.names()[-1] == "end"


@pytest.mark.parametrize("as_events", [False, True])
def test_fault_of_ours_is_a_status_for_everybody(as_events: bool) -> None:
    worker = Worker()
    worker.hub.fails = True
    begun(worker, as_events=as_events)
    assert written(worker).startswith("HTTP/1.1 500 ")
    assert worker.closed() == {("server", "1011"): 1}


def test_events_of_a_fan_out_go_out_as_they_are() -> None:
    worker = Worker()
    stream = live(worker)
    stream.write(b"<events>")
    stream.sink.write_nocheck(b"<more>")
    assert written(worker) == "<events><more>"


def test_ping_is_a_comment_that_needs_no_answer() -> None:
    worker = Worker()
    stream = live(worker)
    stream.ping()
    assert written(worker) == ":\n\n"
    assert stream.heard
    stream.pause_writing()
    stream.ping()
    assert written(worker) == ":\n\n"


def test_client_that_does_not_read_is_not_written_to() -> None:
    worker = Worker()
    stream = live(worker)
    stream.pause_writing()
    assert not stream.writable
    stream.resume_writing()
    assert stream.writable
    # Its end is to be seen at any time, so it is read from in any case.
    assert worker.journal == [("hub.pause",), ("hub.resume",)]


def test_hub_hears_of_every_write_that_leaves_bytes_in_the_transport() -> None:
    worker = Worker()
    stream = begun(worker)
    cast(Any, stream.transport).held = 1
    stream.subscribed(BEGUN)
    stream.ping()
    assert worker.journal.names()[-4:] == ["write", "hub.backlogged"] * 2


def test_token_that_expires_is_a_notice_then_a_problem_and_the_end() -> None:
    worker = Worker()
    stream = live(worker)
    stream.send_error(TOKEN_EXPIRING)
    stream.send_error(TOKEN_EXPIRED)
    stream.close(TOKEN_EXPIRED_CLOSE)
    events = written(worker).split("\n\n")
    assert [event.partition("\n")[0] for event in events] == ["event: notice", "event: problem", ""]
    assert worker.journal.names()[-3:] == ["hub.leave", "registry.closing", "end"]
    assert stream.closing
    assert worker.closed() == {("server", "4401"): 1}


def test_client_that_is_sent_away_is_told_when_to_return() -> None:
    worker = Worker()
    stream = live(worker)
    stream.reconnect(730, RESTART)
    stream.reconnect(800, RESTART)
    assert written(worker).startswith("retry: 730\nevent: reconnect\ndata: ")
    assert worker.journal.names() == ["write", "hub.leave", "registry.closing", "end"]
    stream.write(b"late")
    assert "late" not in written(worker)


def test_client_is_told_where_it_is_before_it_is_sent_away() -> None:
    worker = Worker()
    stream = live(worker)
    worker.hub.dismiss = lambda client: client.write(b"id: ab-7\n\n")  # type: ignore[method-assign]
    stream.reconnect(730, RESTART)
    assert written(worker).startswith("id: ab-7\n\nretry: 730\nevent: reconnect\n")


def test_slow_client_with_on_lag_disconnect_is_closed() -> None:
    worker = Worker()
    live(worker).too_slow()
    assert (written(worker), worker.closed()) == ("", {("server", "4008"): 1})


@pytest.mark.parametrize(("leaves", "code"), [(True, "1001"), (False, "1006")])
def test_client_that_leaves_or_breaks_is_forgotten(leaves: bool, code: str) -> None:
    worker = Worker()
    stream = live(worker)
    if leaves:
        stream.eof_received()
        assert stream.closing
    stream.connection_lost(None)
    assert worker.closed() == {("client", code): 1}
    assert worker.journal.names()[-2:] == ["hub.leave", "registry.lost"]
    assert (worker.row[Field.CONNECTIONS], worker.row[Field.EVENT_STREAMS]) == (0, 0)
    # The drain, or the log, may come later.
    stream.close(RESTART)
    stream.abort()
    assert stream.closing


def test_connection_that_ended_before_the_stream_began_begins_nothing() -> None:
    worker = Worker()
    stream = EventStream(worker.context, principal(), "", REQUEST, {}, as_events=False)
    stream.connection_made(cast(Any, Transport(worker.journal)))
    stream.connection_lost(None)
    stream.begin(b"")
    assert worker.journal == []
    assert worker.row[Field.CONNECTIONS] == 0
