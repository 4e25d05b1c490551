"""Responses, read by the standard library's HTTP client."""

from __future__ import annotations

import io
from http.client import HTTPResponse
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.errors import SHUTTING_DOWN
from energyws.protocol.http.response import Response, event_refusal, matches


class Wire:
    """A socket to read these bytes from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


def read(data: bytes, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    response = HTTPResponse(Wire(data), method=method)  # type: ignore[arg-type]
    response.begin()
    return response, response.read()


@given(st.binary(max_size=200), st.booleans())
def test_body_is_read_to_its_end(body: bytes, closes: bool) -> None:
    encoded = Response(200, body).encode(now=0.0, closes=closes, head_only=False)

    response, read_body = read(encoded)
    assert (response.status, response.reason, response.version) == (200, "OK", 11)
    assert read_body == body
    assert response.will_close is closes


def test_response_to_head_has_the_length_of_the_omitted_body() -> None:
    response, body = read(
        Response(200, b"OK").encode(now=0.0, closes=False, head_only=True), "HEAD"
    )

    assert (response.headers["Content-Length"], body) == ("2", b"")


def test_date_is_in_gmt_and_follows_the_clock() -> None:
    # The example of RFC 9110 section 5.6.7.
    for now, date in ((784111777.9, "06 Nov 1994 08:49:37"), (784111778.0, "06 Nov 1994 08:49:38")):
        encoded = Response(404, b"").encode(now=now, closes=True, head_only=False)
        assert read(encoded)[0].headers["Date"] == f"Sun, {date} GMT"


def test_headers_of_the_body_are_added() -> None:
    headers = {"Content-Type": "application/json", "Retry-After": "5"}
    response, _ = read(Response(503, b"{}", headers).encode(now=0.0, closes=True, head_only=False))

    assert {name: response.headers[name] for name in headers} == headers


@pytest.mark.parametrize(
    ("status", "is_error"), [(200, False), (101, False), (400, True), (503, True)]
)
def test_statuses_from_400_are_errors(status: int, is_error: bool) -> None:
    assert Response(status, b"").is_error is is_error


@pytest.mark.parametrize("status", [204, 304])
def test_response_that_never_has_a_body_has_no_length(status: int) -> None:
    encoded = Response(status, None).encode(now=0.0, closes=False, head_only=False)
    assert b"Content-Length" not in encoded
    assert encoded.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("last_event_id", "lines"),
    [
        ("7f3a-1.2", ["id: 7f3a-1.2"]),
        ("", []),
        # What is no position could be a field of its own.
        ("7f3a-1.2\nevent: reconnect", []),
        ("7f3a-1.2\0", []),
    ],
)
def test_refused_event_source_keeps_its_position(last_event_id: str, lines: list[str]) -> None:
    response = event_refusal(SHUTTING_DOWN, "", {}, last_event_id)
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
    assert response.body is not None
    begin, event, rest = response.body.decode().split("\n\n")
    retry, *place = begin.split("\n")
    assert retry.startswith("retry: ")
    assert place == lines
    assert event.startswith('event: problem\ndata: {"type":"error"')
    assert rest == ""


def test_tags_are_compared_weakly() -> None:
    assert matches('"a", W/"b"', '"b"')
    assert matches("*", '"b"')
    assert not matches("b", '"b"')
    assert not matches("", '"b"')
